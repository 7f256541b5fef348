// Draws pictures of coloured shapes with captions that say what is in them, as WebDataset shards: training data that needs no
// download, for a first try and for `weft selftest`. "a large red ring at the top left on a grey ground": 5,184 captions; each
// picture has its own size and place. A function of the options alone.
//
// Output: train-000000.tar ..., eval-000000.tar (captions whose FNV-1a 64 mod 10 is 0, each once), their lists of bad pictures
// (empty), and `_done`, written last: with it a second call with the same options returns at once.
// Errors: InvalidArgument names the option; ResourceExhausted (disk full). Thread rule: one caller.
#pragma once

#include <cstdint>
#include <string>

#include "cluster/base/status.h"
#include "dataloader/image_decode.h"

namespace weft {

struct PackShapesOptions {
  std::string out;
  int64_t pictures = 4000;
  // Pixels of a side.
  int side = 96;
  // Training shards.
  int shards = 4;
  uint64_t seed = 1;
};

struct PackShapesReport {
  int64_t train = 0;
  int64_t held_out = 0;
  // Other pictures of held-out captions: in neither set.
  int64_t dropped_twins = 0;
  // Nothing was done: the shards of an earlier call are there.
  bool already_done = false;
};

StatusOr<PackShapesReport> PackShapes(const PackShapesOptions& options);

struct ShapePicture {
  std::string caption;
  Image image;
};
// The picture with this number.
ShapePicture DrawShape(uint64_t seed, int64_t number, int side);

}  // namespace weft
