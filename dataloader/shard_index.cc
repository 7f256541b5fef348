#include "dataloader/shard_index.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "cluster/base/hash.h"
#include "dataloader/tar_reader.h"

namespace weft {

StatusOr<ShardIndex> ShardIndex::Build(const ShardFile& file, CutShards cut_shards) {
  ShardIndex index;
  TarReader reader(file);
  std::string key;
  std::string extension;
  while (true) {
    StatusOr<std::optional<TarMember>> member = reader.Next();
    if (!member.ok()) {
      if (cut_shards == CutShards::kRefuse) return member.status();
      index.cut_ = member.status();
      // The last sample's other members may have been cut off.
      if (!index.samples_.empty()) index.samples_.pop_back();
      break;
    }
    if (!member->has_value()) break;
    if (!SplitMemberName((*member)->name, &key, &extension)) continue;
    WEFT_RETURN_IF_ERROR(index.Add(file, key, extension, (*member)->data_offset, (*member)->size));
  }
  index.contents_crc_ = index.ComputeContentsCrc();
  return index;
}

Status ShardIndex::Add(const ShardFile& file, const std::string& key, const std::string& extension,
                       uint64_t offset, uint64_t size) {
  if (samples_.empty() || this->key(num_samples() - 1) != key) {
    samples_.push_back({keys_.size(), static_cast<uint32_t>(key.size()), 0, members_.size()});
    keys_ += key;
  }
  if (Find(num_samples() - 1, extension) != nullptr) {
    return Corruption("shard " + file.path() + ", byte " + std::to_string(offset) + ": sample '" +
                      key + "' has two members ." + extension +
                      " (two samples with one key, one after the other?)");
  }
  members_.push_back({offset, size, ExtensionId(extension)});
  ++samples_.back().num_members;
  return OkStatus();
}

uint32_t ShardIndex::ExtensionId(const std::string& extension) {
  const auto found = std::find(extensions_.begin(), extensions_.end(), extension);
  const auto id = static_cast<uint32_t>(found - extensions_.begin());
  if (found == extensions_.end()) extensions_.push_back(extension);
  return id;
}

std::string_view ShardIndex::key(int64_t sample) const {
  const Sample& s = samples_[static_cast<size_t>(sample)];
  return std::string_view(keys_).substr(s.key_begin, s.key_size);
}

std::span<const ShardMember> ShardIndex::members(int64_t sample) const {
  const Sample& s = samples_[static_cast<size_t>(sample)];
  return {members_.data() + s.first_member, s.num_members};
}

const ShardMember* ShardIndex::Find(int64_t sample, std::string_view extension) const {
  for (const ShardMember& member : members(sample)) {
    if (extensions_[member.extension] == extension) return &member;
  }
  return nullptr;
}

uint32_t ShardIndex::ComputeContentsCrc() const {
  uint32_t crc = 0;
  std::string line;
  for (int64_t i = 0; i < num_samples(); ++i) {
    line.assign(key(i));
    for (const ShardMember& member : members(i)) {
      line += '\0' + extensions_[member.extension] + '\0' + std::to_string(member.offset) + '+' +
              std::to_string(member.size);
    }
    line += '\n';
    crc = Crc32c(line.data(), line.size(), crc);
  }
  return crc;
}

}  // namespace weft
