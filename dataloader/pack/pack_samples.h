// Samples of any format as WebDataset shards, in one global shuffle by key: what `weft data pack SHARDS` does.
//
// Each shard's bytes are a function of the source and the options, and a shard appears under its name only when it is whole;
// so a packing that was killed goes on where it was and ends with the same bytes. `_pack` in the folder says what is packed
// there, `_done` (written last) that it is complete.
//
// Errors: the source's; FailedPrecondition (the folder holds shards of other options); messages name the file.
// Thread rule: works on several threads inside.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cluster/base/status.h"

namespace weft {

struct PackSamplesOptions {
  std::vector<std::string> sources;  // as data.train_shards
  std::string out;
  std::string prefix = "train";
  int64_t samples_per_shard = 10'000;
  int64_t seed = 0;
  // 0: pictures keep their bytes, but progressive JPEGs become baseline. Else: the shorter side is resized to this many
  // pixels (never enlarged), over white, as JPEG.
  int short_side = 0;
  int quality = 95;
  int threads = 1;
};

struct PackSamplesReport {
  int64_t samples = 0;
  int64_t shards = 0;
  int64_t shards_kept = 0;  // were there from an earlier call
  // Of the shards written now:
  int64_t rewritten = 0;  // progressive JPEGs
  int64_t resized = 0;
  int64_t left_out = 0;  // samples with a picture that does not decode, where it had to
  std::string manifest;  // its path
};

// (samples done, all samples)
using PackSamplesProgress = std::function<void(int64_t, int64_t)>;

StatusOr<PackSamplesReport> PackSamples(const PackSamplesOptions& options,
                                        const PackSamplesProgress& progress);

// How a member is named in a packed shard: pictures of columns without a picture's extension ("image") get their format's
// ("jpg"), "caption" and "text" become "txt"; all others stay.
std::string PackedExtension(const std::string& extension, const std::string& bytes);

}  // namespace weft
