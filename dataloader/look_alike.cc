#include "dataloader/look_alike.h"

#include <algorithm>
#include <array>
#include <bit>

namespace weft {
namespace {

constexpr int kColumns = 9;
constexpr int kRows = 8;
// Bits in which pictures that look alike may differ; two pictures that have nothing to do with each other differ in 32.
constexpr int kMaxDistance = 3;
// A hash with fewer rises or falls is of a nearly plain picture, which looks like any other.
constexpr int kLeastBits = 6;

}  // namespace

uint64_t DifferenceHash(const Image& image) {
  std::array<std::array<int64_t, kColumns>, kRows> mean = {};
  for (int row = 0; row < kRows; ++row) {
    for (int column = 0; column < kColumns; ++column) {
      const int y0 = row * image.height / kRows;
      const int y1 = std::max(y0 + 1, (row + 1) * image.height / kRows);
      const int x0 = column * image.width / kColumns;
      const int x1 = std::max(x0 + 1, (column + 1) * image.width / kColumns);
      int64_t sum = 0;
      for (int y = y0; y < y1; ++y) {
        for (int x = x0; x < x1; ++x) {
          const uint8_t* pixel =
              &image.rgb[3 * (static_cast<size_t>(y) * static_cast<size_t>(image.width) +
                              static_cast<size_t>(x))];
          sum += 2 * pixel[0] + 5 * pixel[1] + pixel[2];
        }
      }
      mean[static_cast<size_t>(row)][static_cast<size_t>(column)] =
          sum / (int64_t{y1 - y0} * (x1 - x0));
    }
  }
  uint64_t hash = 0;
  for (const auto& row : mean) {
    for (size_t column = 0; column + 1 < kColumns; ++column)
      hash = hash << 1 | static_cast<uint64_t>(row[column] < row[column + 1]);
  }
  return hash;
}

void LookAlikes::Add(int64_t index, const std::string& key, const Image& image) {
  if (index / chunk_ != current_) {
    current_ = index / chunk_;
    seen_.clear();
  }
  const uint64_t hash = DifferenceHash(image);
  const int bits = std::popcount(hash);
  if (bits < kLeastBits || bits > 64 - kLeastBits) return;
  const auto alike = std::find_if(seen_.begin(), seen_.end(), [hash](const Seen& seen) {
    return std::popcount(seen.hash ^ hash) <= kMaxDistance;
  });
  if (alike != seen_.end()) {
    if (count_ == 0) {
      first_ = alike->key;
      second_ = key;
    }
    ++count_;
  }
  seen_.push_back({key, hash});
}

}  // namespace weft
