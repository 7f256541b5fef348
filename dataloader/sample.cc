#include "dataloader/sample.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "dataloader/image_decode.h"
#include "dataloader/region_features.h"

namespace weft {
namespace {

bool IsText(std::string_view extension) {
  const std::string_view last = LastPart(extension);
  return last == "txt" || last == "text" || last == "transcript" || last == "caption";
}

// "10.jpg" -> 10; a name without a number comes first.
long Number(const std::string& extension) {
  return extension.empty() || extension[0] < '0' || extension[0] > '9'
             ? -1
             : std::strtol(extension.c_str(), nullptr, 10);
}

void Classify(const std::string& extension, std::string bytes, Sample* sample) {
  Media media{MediaKind::kImage, extension, {}, 0, 0};
  if (SniffImageFormat(bytes) != ImageFormat::kUnknown) {
    const StatusOr<ImageInfo> info = ReadImageInfo(bytes);
    if (info.ok()) media.width = info->width;
    if (info.ok()) media.height = info->height;
  } else if (LooksLikeRegionFeatures(bytes)) {
    media.kind = MediaKind::kRegionFeatures;
    const StatusOr<RegionFeatures> regions = ParseRegionFeatures(bytes);
    if (regions.ok()) media.width = regions->width;
    if (regions.ok()) media.height = regions->height;
  } else if (IsText(extension)) {
    sample->texts.push_back(std::move(bytes));
    return;
  } else {
    sample->fields[extension] = std::move(bytes);
    return;
  }
  media.bytes = std::move(bytes);
  sample->media.push_back(std::move(media));
}

}  // namespace

std::string_view LastPart(std::string_view extension) {
  const size_t dot = extension.rfind('.');
  return dot == std::string_view::npos ? extension : extension.substr(dot + 1);
}

Sample MakeSample(std::string key, std::vector<std::pair<std::string, std::string>> members) {
  Sample sample;
  sample.key = std::move(key);
  std::sort(members.begin(), members.end(), [](const auto& a, const auto& b) {
    return std::make_pair(Number(a.first), a.first) < std::make_pair(Number(b.first), b.first);
  });
  for (auto& [extension, bytes] : members) Classify(extension, std::move(bytes), &sample);
  return sample;
}

}  // namespace weft
