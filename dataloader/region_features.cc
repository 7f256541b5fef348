#include "dataloader/region_features.h"

#include <cmath>
#include <cstring>

#include "cluster/base/logging.h"

namespace weft {
namespace {

constexpr std::string_view kMagic = "WEFTREG1";
constexpr uint32_t kMaxFeature = 1U << 16;
constexpr uint32_t kHasObjects = 1;
constexpr uint32_t kHasAttributes = 2;

struct Head {
  char magic[8];
  uint32_t width;
  uint32_t height;
  uint32_t regions;
  uint32_t feature_size;
  uint32_t classes;
  uint32_t flags;
};
static_assert(sizeof(Head) == 32);

template <typename T>
void Append(const std::vector<T>& items, std::string* bytes) {
  bytes->append(reinterpret_cast<const char*>(items.data()), items.size() * sizeof(T));
}

// Takes arrays from the front of bytes whose size was checked.
class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : bytes_(bytes) {}
  template <typename T>
  void Take(size_t count, std::vector<T>* items) {
    items->resize(count);
    if (count > 0) std::memcpy(items->data(), bytes_.data(), count * sizeof(T));
    bytes_.remove_prefix(count * sizeof(T));
  }

 private:
  std::string_view bytes_;
};

uint64_t BytesAfterHead(const Head& head) {
  const uint64_t arrays =
      (head.flags & kHasObjects ? 4 : 0) + (head.flags & kHasAttributes ? 4 : 0);
  return uint64_t{head.regions} *
         (16 + 2 * uint64_t{head.feature_size} + 2 * uint64_t{head.classes} + arrays);
}

}  // namespace

bool LooksLikeRegionFeatures(std::string_view bytes) { return bytes.starts_with(kMagic); }

StatusOr<RegionFeatures> ParseRegionFeatures(std::string_view bytes) {
  Head head;
  if (bytes.size() < sizeof head || !LooksLikeRegionFeatures(bytes))
    return Corruption("no region features (they begin with WEFTREG1)");
  std::memcpy(&head, bytes.data(), sizeof head);
  if (head.regions < 1 || head.regions > kMaxRegions || head.feature_size > kMaxFeature ||
      head.classes > kMaxFeature || head.width < 1 || head.height < 1 || head.width > (1U << 20) ||
      head.height > (1U << 20) || head.flags > 3) {
    return Corruption("region features with sizes out of range (" + std::to_string(head.regions) +
                      " regions of " + std::to_string(head.feature_size) + " numbers)");
  }
  if (bytes.size() - sizeof head != BytesAfterHead(head)) {
    return Corruption("region features of " + std::to_string(bytes.size()) + " bytes, where " +
                      std::to_string(head.regions) + " regions need " +
                      std::to_string(sizeof head + BytesAfterHead(head)));
  }
  RegionFeatures regions;
  regions.width = static_cast<int>(head.width);
  regions.height = static_cast<int>(head.height);
  regions.feature_size = static_cast<int>(head.feature_size);
  regions.classes = static_cast<int>(head.classes);
  const size_t count = head.regions;
  Cursor cursor(bytes.substr(sizeof head));
  cursor.Take(count, &regions.boxes);
  cursor.Take(count * head.feature_size, &regions.features);
  cursor.Take(count * head.classes, &regions.class_probability);
  const size_t objects = head.flags & kHasObjects ? count : 0;
  const size_t attributes = head.flags & kHasAttributes ? count : 0;
  cursor.Take(objects, &regions.object_id);
  cursor.Take(objects, &regions.object_confidence);
  cursor.Take(attributes, &regions.attribute_id);
  cursor.Take(attributes, &regions.attribute_confidence);
  for (const std::array<float, 4>& box : regions.boxes) {
    for (const float side : box) {
      if (!std::isfinite(side)) return Corruption("a box of region features is not finite");
    }
  }
  return regions;
}

std::string SerializeRegionFeatures(const RegionFeatures& regions) {
  const size_t count = regions.boxes.size();
  WEFT_CHECK(regions.features.size() == count * static_cast<size_t>(regions.feature_size));
  WEFT_CHECK(regions.class_probability.size() == count * static_cast<size_t>(regions.classes));
  Head head = {};
  std::memcpy(head.magic, kMagic.data(), sizeof head.magic);
  head.width = static_cast<uint32_t>(regions.width);
  head.height = static_cast<uint32_t>(regions.height);
  head.regions = static_cast<uint32_t>(count);
  head.feature_size = static_cast<uint32_t>(regions.feature_size);
  head.classes = static_cast<uint32_t>(regions.classes);
  head.flags = (regions.object_id.empty() ? 0 : kHasObjects) |
               (regions.attribute_id.empty() ? 0 : kHasAttributes);
  std::string bytes(reinterpret_cast<const char*>(&head), sizeof head);
  Append(regions.boxes, &bytes);
  Append(regions.features, &bytes);
  Append(regions.class_probability, &bytes);
  Append(regions.object_id, &bytes);
  Append(regions.object_confidence, &bytes);
  Append(regions.attribute_id, &bytes);
  Append(regions.attribute_confidence, &bytes);
  WEFT_CHECK(bytes.size() == sizeof head + BytesAfterHead(head));
  return bytes;
}

std::array<float, 7> BoxGeometry(const RegionFeatures& regions, size_t region) {
  const auto [x1, y1, x2, y2] = regions.boxes[region];
  const auto w = static_cast<float>(regions.width);
  const auto h = static_cast<float>(regions.height);
  return {x1 / w,
          y1 / h,
          x2 / w,
          y2 / h,
          (x2 - x1) / w,
          (y2 - y1) / h,
          (x2 - x1) * (y2 - y1) / (w * h)};
}

}  // namespace weft
