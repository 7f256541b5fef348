#include "dataloader/cached_shard.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "cluster/base/hash.h"
#include "dataloader/disk_cache.h"

namespace weft {
namespace {

bool HasChecksums(const ShardIndex& index) {
  for (int64_t i = 0; i < index.num_samples(); ++i) {
    if (index.sample(i).crc == 0) return false;
  }
  return true;
}

uint64_t EndOf(const IndexedSample& sample) { return sample.begin + sample.size; }

}  // namespace

std::unique_ptr<CachedShard> CachedShard::Make(const ShardFile& file, const ShardIndex& index,
                                               std::span<const int64_t> starts, ChunkCache* cache) {
  for (int64_t i = 0; i < index.num_samples(); ++i) {
    const uint64_t end = i + 1 < index.num_samples() ? index.sample(i + 1).begin : file.size();
    if (EndOf(index.sample(i)) > end) return nullptr;
  }
  if (starts.size() < 2) return nullptr;
  std::unique_ptr<CachedShard> shard(new CachedShard(file, index, cache));
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    const int64_t begin = starts[i];
    const int64_t end = starts[i + 1];
    const uint64_t bytes = EndOf(index.sample(end - 1)) - index.sample(begin).begin;
    const auto parts =
        std::min(static_cast<int64_t>((bytes + kMaxChunkBytes - 1) / kMaxChunkBytes), end - begin);
    for (int64_t part = 0; part < parts; ++part) {
      const int64_t sample = begin + (end - begin) * part / parts;
      shard->borders_.push_back({index.sample(sample).begin, sample});
    }
  }
  if (shard->borders_.empty()) return nullptr;
  shard->borders_.push_back({EndOf(index.sample(starts.back() - 1)), starts.back()});
  if (!HasChecksums(index)) {
    std::error_code error;
    const std::filesystem::path path = std::filesystem::canonical(file.path(), error);
    shard->path_identity_ =
        (error ? file.path() : path.string()) + " " + std::to_string(file.disk_bytes()) + " " +
        std::to_string(file.disk_time()) + " " + std::to_string(index.contents_crc());
  }
  return shard;
}

Status CachedShard::ReadAt(uint64_t offset, size_t size, void* out) const {
  const auto after = std::upper_bound(
      borders_.begin(), borders_.end(), offset,
      [](uint64_t wanted, const Border& border) { return wanted < border.offset; });
  if (after != borders_.begin() && after != borders_.end() && offset + size <= after->offset) {
    const auto chunk = static_cast<uint32_t>(after - borders_.begin() - 1);
    if (cache_ != nullptr &&
        cache_->Read({this, chunk}, offset - borders_[chunk].offset, size, out))
      return OkStatus();
  }
  return file_.ReadAt(offset, size, out);
}

ChunkRef CachedShard::ChunkAt(int64_t index) const {
  const auto after =
      std::upper_bound(borders_.begin(), borders_.end(), index,
                       [](int64_t wanted, const Border& border) { return wanted < border.sample; });
  if (after == borders_.begin() || after == borders_.end()) return {};
  return {this, static_cast<uint32_t>(after - borders_.begin() - 1)};
}

std::string CachedShard::KeyOf(uint32_t chunk) const {
  const Border& begin = borders_[chunk];
  const Border& end = borders_[chunk + 1];
  if (!path_identity_.empty())
    return DiskCache::Key("path", path_identity_, begin.offset, end.offset);
  std::string identity;
  for (int64_t i = begin.sample; i < end.sample; ++i) {
    const IndexedSample& sample = index_.sample(i);
    identity += std::to_string(sample.begin) + "+" + std::to_string(sample.size) + ":" +
                std::to_string(sample.crc) + " ";
  }
  return DiskCache::Key("checksums", identity, begin.offset, end.offset);
}

Status CachedShard::Fetch(uint32_t chunk, std::string* bytes) const {
  const Border& begin = borders_[chunk];
  const Border& end = borders_[chunk + 1];
  bytes->resize(end.offset - begin.offset);
  WEFT_RETURN_IF_ERROR(file_.ReadAt(begin.offset, bytes->size(), bytes->data()));
  // What was read may be another file's.
  WEFT_RETURN_IF_ERROR(file_.CheckUnchanged());
  if (!path_identity_.empty()) return OkStatus();
  for (int64_t i = begin.sample; i < end.sample; ++i) {
    const IndexedSample& sample = index_.sample(i);
    const char* at = bytes->data() + (sample.begin - begin.offset);
    if (Crc32c(at, sample.size) != sample.crc) {
      return Corruption("shard " + file_.path() + ", sample '" + std::string(index_.key(i)) +
                        "': the bytes are not those that its index was made from");
    }
  }
  return OkStatus();
}

}  // namespace weft
