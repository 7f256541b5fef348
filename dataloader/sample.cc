#include "dataloader/sample.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "dataloader/image_decode.h"
#include "dataloader/region_features.h"
#include "dataloader/shard_members.h"

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

StatusOr<Sample> ReadSample(const ShardFile& file, const ShardIndex& index, int64_t sample) {
  Sample result;
  result.key = std::string(index.key(sample));
  std::vector<const ShardMember*> members;
  for (const ShardMember& member : index.members(sample)) members.push_back(&member);
  const auto place = [&index](const ShardMember* member) {
    const std::string& extension = index.extension(*member);
    return std::make_pair(Number(extension), extension);
  };
  std::sort(members.begin(), members.end(),
            [&](const ShardMember* a, const ShardMember* b) { return place(a) < place(b); });
  for (const ShardMember* member : members) {
    std::string bytes;
    WEFT_RETURN_IF_ERROR(ReadShardMember(file, index, *member, &bytes));
    Classify(index.extension(*member), std::move(bytes), &result);
  }
  return result;
}

}  // namespace weft
