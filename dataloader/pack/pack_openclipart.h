// Turns the Debian package openclipart-png into WebDataset shards with captions, split by caption into training and held-out
// pictures. The same source and options give the same bytes.
//
// Output: train-000000.tar ..., eval-000000.tar, their lists of bad pictures (empty), and `_done`, written last: with it a second call returns at once.
// Errors: NotFound, Unavailable (no source), ResourceExhausted (disk full); messages name the file.
// Thread rule: one caller; works on all cores inside.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cluster/base/status.h"

namespace weft {

struct PackOpenclipartOptions {
  // Unpacked package, or "": see FindPackage.
  std::string source;
  std::string cache = ".cache/openclipart";
  std::string out;
  // 0: the PNG bytes as they are. Else: over white, shorter side resized to this many pixels (never enlarged), JPEG.
  int short_side = 0;
  int quality = 95;
  // Training shards.
  int shards = 8;
  // Conversations about each picture in its json member (dataloader/FORMAT.md).
  bool conversations = false;
  int threads = 1;
};

struct PackReport {
  struct Step {
    std::string what;
    int64_t dropped = 0;
    int64_t left = 0;
  };
  std::vector<Step> steps;
  int64_t own_titles = 0;
  int64_t distinct_captions = 0;
  int64_t train = 0;
  int64_t held_out = 0;
  // Other pictures of held-out captions: in neither set.
  int64_t dropped_twins = 0;
  // Nothing was done: the shards of an earlier call are there.
  bool already_done = false;
};

// (stage, done, total), called from any thread, one at a time.
using PackProgress = std::function<void(const std::string&, int64_t, int64_t)>;

StatusOr<PackReport> PackOpenclipart(const PackOpenclipartOptions& options,
                                     const PackProgress& progress);

}  // namespace weft
