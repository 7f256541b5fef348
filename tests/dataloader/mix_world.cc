#include "tests/dataloader/mix_world.h"

#include "cluster/base/file_system.h"
#include "cluster/base/logging.h"

namespace weft {

bool IsBadOfMix(int set, int i) { return i % 100 == 17 + 7 * set; }

std::string WriteMixFile(const std::string& path, const std::string& bytes) {
  WEFT_CHECK(WriteFileDurably(PosixFileSystem(), path, bytes).ok());
  return path;
}

LoaderOptions UsualMixOptions(SampleFamily family) {
  LoaderOptions options;
  options.family = family;
  options.seed = 11;
  options.batch.set_slots(kMixSlots);
  options.batch.set_micro_batches(2);
  options.batch.set_micro_batch_size(5);
  options.image_size = 12;
  options.data.mutable_order()->set_lanes(48);
  options.data.mutable_order()->set_chunk(8);
  options.data.mutable_order()->set_window(4);
  options.data.mutable_balance()->set_group(8);
  options.data.mutable_balance()->set_attention(0.01);
  return options;
}

}  // namespace weft
