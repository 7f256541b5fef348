#include "dataloader/token_mask.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "dataloader/micro_batch.h"

namespace weft {
namespace {

// Elements of a sample's draws: the count, then a run of them a purpose, each long enough for any block.
constexpr uint64_t kChoice = uint64_t{1} << 32;
constexpr uint64_t kFate = uint64_t{2} << 32;
constexpr uint64_t kToken = uint64_t{3} << 32;

}  // namespace

int32_t TokenMasker::Mask(const KeyedRandom& random, uint64_t sample_id, size_t length,
                          int32_t* ids, int32_t* labels) {
  std::fill(labels, labels + length, kIgnoreLabel);
  const double wanted =
      recipe_.probability() * static_cast<double>(length) + random.Uniform(sample_id, 0);
  const auto count = std::min(length, static_cast<size_t>(std::floor(wanted)));
  positions_.resize(length);
  std::iota(positions_.begin(), positions_.end(), 0U);
  for (size_t i = 0; i < count; ++i) {
    // The first steps of a Fisher-Yates shuffle: distinct positions, each equally likely.
    std::swap(positions_[i], positions_[i + random.Below(length - i, sample_id, kChoice + i)]);
    const uint32_t at = positions_[i];
    labels[at] = ids[at];
    const double fate = random.Uniform(sample_id, kFate + at);
    if (fate < recipe_.keep()) continue;
    ids[at] = tokens_.mask_id;
    if (fate < recipe_.keep() + recipe_.replace()) {
      ids[at] = tokens_.first + static_cast<int32_t>(random.Below(
                                    static_cast<uint64_t>(tokens_.count), sample_id, kToken + at));
    }
  }
  return static_cast<int32_t>(count);
}

}  // namespace weft
