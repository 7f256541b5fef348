#include "dataloader/shard_index_builder.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace weft {

ShardIndexBuilder::ShardIndexBuilder(const ShardBytes& bytes, ShardFormat format, bool checksums)
    : bytes_(bytes),
      format_(format),
      checksums_(checksums),
      arrays_(std::make_shared<ShardIndex::Arrays>()) {}

Status ShardIndexBuilder::Error(uint64_t offset, const std::string& what) const {
  return Corruption("shard " + bytes_.path() + ", byte " + std::to_string(offset) + ": " + what);
}

std::string_view ShardIndexBuilder::last_key() const {
  const IndexedSample& sample = arrays_->samples.back();
  return std::string_view(arrays_->keys).substr(sample.key_begin, sample.key_size);
}

Status ShardIndexBuilder::BeginSample(std::string_view key, uint64_t begin) {
  if (key.size() > std::numeric_limits<uint16_t>::max())
    return Error(begin, "a key of " + std::to_string(key.size()) + " bytes");
  arrays_->samples.push_back({begin, 0, 0, arrays_->keys.size(),
                              static_cast<uint32_t>(arrays_->members.size()),
                              static_cast<uint16_t>(key.size()), 0});
  arrays_->keys += key;
  return OkStatus();
}

Status ShardIndexBuilder::AddMember(const std::string& extension, uint64_t offset, uint64_t size) {
  IndexedSample& sample = arrays_->samples.back();
  const uint32_t id = ExtensionId(extension);
  for (size_t i = sample.first_member; i < arrays_->members.size(); ++i) {
    if (arrays_->members[i].extension != id) continue;
    return Error(offset, "sample '" + std::string(last_key()) + "' has two members ." + extension +
                             " (two samples with one key, one after the other?)");
  }
  const uint64_t end = std::max<uint64_t>(offset + size - sample.begin, sample.size);
  if (end > std::numeric_limits<uint32_t>::max())
    return Error(sample.begin, "sample '" + std::string(last_key()) + "' has more than 4 GiB");
  if (sample.num_members == std::numeric_limits<uint16_t>::max())
    return Error(sample.begin, "sample '" + std::string(last_key()) + "' has too many members");
  if (checksums_) {
    WEFT_ASSIGN_OR_RETURN(
        sample.crc, bytes_.Checksum(sample.begin + sample.size, end - sample.size, sample.crc));
  }
  sample.size = static_cast<uint32_t>(end);
  arrays_->members.push_back({offset, static_cast<uint32_t>(size), id});
  ++sample.num_members;
  return OkStatus();
}

void ShardIndexBuilder::DropLast() {
  if (!arrays_->samples.empty()) arrays_->samples.pop_back();
}

ShardIndex ShardIndexBuilder::Finish(Status cut) {
  ShardIndex index;
  index.format_ = format_;
  index.samples_ = arrays_->samples;
  index.members_ = arrays_->members;
  index.keys_ = arrays_->keys;
  index.extensions_ = std::move(extensions_);
  index.cut_ = std::move(cut);
  index.storage_ = arrays_;
  index.contents_crc_ = index.ComputeContentsCrc();
  return index;
}

uint32_t ShardIndexBuilder::ExtensionId(const std::string& extension) {
  const auto found = std::find(extensions_.begin(), extensions_.end(), extension);
  const auto id = static_cast<uint32_t>(found - extensions_.begin());
  if (found == extensions_.end()) extensions_.push_back(extension);
  return id;
}

}  // namespace weft
