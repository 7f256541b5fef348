#include "dataloader/shard_index.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "cluster/base/file_system.h"
#include "cluster/base/hash.h"
#include "cluster/base/text.h"
#include "dataloader/mapped_file.h"
#include "dataloader/read_ahead.h"
#include "dataloader/tar_reader.h"

namespace weft {
namespace {

// The head of a flat index; samples, members, keys and extensions ('\n' between them) follow without gaps.
struct IndexHead {
  char magic[8];
  uint64_t shard_bytes;     // on disk
  int64_t shard_time;       // modification, ns
  uint64_t inflated_bytes;  // of the tar
  uint64_t samples;
  uint64_t members;
  uint64_t key_bytes;
  uint32_t extension_bytes;
  uint32_t contents_crc;
  uint32_t reserved;  // 0
  uint32_t head_crc;  // CRC32C of what stands before it
};
static_assert(sizeof(IndexHead) == 72);
constexpr char kMagic[] = "WEFTIDX1";

std::string IndexPath(const ShardFile& file) { return file.path() + ".index"; }

uint32_t HeadCrc(const IndexHead& head) { return Crc32c(&head, offsetof(IndexHead, head_crc)); }

template <typename T>
std::string_view AsBytes(std::span<const T> items) {
  return {reinterpret_cast<const char*>(items.data()), items.size_bytes()};
}

}  // namespace

struct ShardIndex::Arrays {
  std::vector<IndexedSample> samples;
  std::vector<ShardMember> members;
  std::string keys;
};

// Takes members in the order of the tar.
class ShardIndex::Builder {
 public:
  Builder(const ShardFile& file, const ShardBytes& bytes, bool checksums)
      : file_(file), bytes_(bytes), checksums_(checksums) {}

  Status Add(const TarMember& member) {
    std::string key;
    std::string extension;
    if (!SplitMemberName(member.name, &key, &extension)) return OkStatus();
    if (arrays_->samples.empty() || LastKey() != key) {
      if (key.size() > std::numeric_limits<uint16_t>::max())
        return Error(member.begin, "a key of " + std::to_string(key.size()) + " bytes");
      arrays_->samples.push_back({member.begin, 0, 0, arrays_->keys.size(),
                                  static_cast<uint32_t>(arrays_->members.size()),
                                  static_cast<uint16_t>(key.size()), 0});
      arrays_->keys += key;
    }
    IndexedSample& sample = arrays_->samples.back();
    const uint32_t id = ExtensionId(extension);
    for (size_t i = sample.first_member; i < arrays_->members.size(); ++i) {
      if (arrays_->members[i].extension != id) continue;
      return Error(member.data_offset, "sample '" + key + "' has two members ." + extension +
                                           " (two samples with one key, one after the other?)");
    }
    const uint64_t end = member.data_offset + member.size - sample.begin;
    if (end > std::numeric_limits<uint32_t>::max())
      return Error(sample.begin, "sample '" + key + "' has more than 4 GiB");
    if (sample.num_members == std::numeric_limits<uint16_t>::max())
      return Error(sample.begin, "sample '" + key + "' has too many members");
    if (checksums_) {
      WEFT_ASSIGN_OR_RETURN(
          sample.crc, bytes_.Checksum(sample.begin + sample.size, end - sample.size, sample.crc));
    }
    sample.size = static_cast<uint32_t>(end);
    arrays_->members.push_back({member.data_offset, static_cast<uint32_t>(member.size), id});
    ++sample.num_members;
    return OkStatus();
  }

  // The last sample's other members may have been cut off.
  void DropLast() {
    if (!arrays_->samples.empty()) arrays_->samples.pop_back();
  }

  ShardIndex Finish(Status cut) {
    ShardIndex index;
    index.samples_ = arrays_->samples;
    index.members_ = arrays_->members;
    index.keys_ = arrays_->keys;
    index.extensions_ = std::move(extensions_);
    index.cut_ = std::move(cut);
    index.storage_ = arrays_;
    index.contents_crc_ = index.ComputeContentsCrc();
    return index;
  }

 private:
  Status Error(uint64_t offset, const std::string& what) const {
    return Corruption("shard " + file_.path() + ", byte " + std::to_string(offset) + ": " + what);
  }

  std::string_view LastKey() const {
    const IndexedSample& sample = arrays_->samples.back();
    return std::string_view(arrays_->keys).substr(sample.key_begin, sample.key_size);
  }

  uint32_t ExtensionId(const std::string& extension) {
    const auto found = std::find(extensions_.begin(), extensions_.end(), extension);
    const auto id = static_cast<uint32_t>(found - extensions_.begin());
    if (found == extensions_.end()) extensions_.push_back(extension);
    return id;
  }

  const ShardFile& file_;
  const ShardBytes& bytes_;
  const bool checksums_;
  std::shared_ptr<Arrays> arrays_ = std::make_shared<Arrays>();
  std::vector<std::string> extensions_;
};

StatusOr<ShardIndex> ShardIndex::Build(const ShardFile& file, CutShards cut_shards) {
  return Build(file, file, cut_shards, false);
}

StatusOr<ShardIndex> ShardIndex::BuildWithChecksums(const ShardFile& file, CutShards cut_shards) {
  const ReadAhead ahead(file);
  return Build(file, ahead, cut_shards, true);
}

StatusOr<ShardIndex> ShardIndex::Build(const ShardFile& file, const ShardBytes& bytes,
                                       CutShards cut_shards, bool checksums) {
  Builder builder(file, bytes, checksums);
  TarReader reader(bytes);
  Status cut;
  while (true) {
    StatusOr<std::optional<TarMember>> member = reader.Next();
    if (!member.ok()) {
      if (cut_shards == CutShards::kRefuse) return member.status();
      cut = member.status();
      builder.DropLast();
      break;
    }
    if (!member->has_value()) break;
    WEFT_RETURN_IF_ERROR(builder.Add(**member));
  }
  return builder.Finish(cut);
}

Status ShardIndex::WriteBeside(const ShardFile& file) const {
  const std::string extensions = Join(extensions_, "\n");
  IndexHead head = {};
  std::memcpy(head.magic, kMagic, sizeof head.magic);
  head.shard_bytes = file.disk_bytes();
  head.shard_time = file.disk_time();
  head.inflated_bytes = file.size();
  head.samples = samples_.size();
  head.members = members_.size();
  head.key_bytes = keys_.size();
  head.extension_bytes = static_cast<uint32_t>(extensions.size());
  head.contents_crc = contents_crc_;
  head.head_crc = HeadCrc(head);
  std::string bytes(reinterpret_cast<const char*>(&head), sizeof head);
  bytes += AsBytes(samples_);
  bytes += AsBytes(members_);
  bytes += keys_;
  bytes += extensions;
  return WriteFileDurably(PosixFileSystem(), IndexPath(file), bytes);
}

std::optional<ShardIndex> ShardIndex::MapBeside(const ShardFile& file) {
  StatusOr<std::shared_ptr<const MappedFile>> mapped = MappedFile::Open(IndexPath(file));
  if (!mapped.ok() || (*mapped)->size() < sizeof(IndexHead)) return std::nullopt;
  const char* at = (*mapped)->data();
  IndexHead head;
  std::memcpy(&head, at, sizeof head);
  if (std::memcmp(head.magic, kMagic, sizeof head.magic) != 0 || head.head_crc != HeadCrc(head) ||
      head.shard_bytes != file.disk_bytes() || head.shard_time != file.disk_time() ||
      head.inflated_bytes != file.size()) {
    return std::nullopt;
  }
  // Each of them is at most the file, so the sum below does not wrap.
  if (std::max({head.samples, head.members, head.key_bytes}) > (*mapped)->size())
    return std::nullopt;
  const size_t arrays =
      head.samples * sizeof(IndexedSample) + head.members * sizeof(ShardMember) + head.key_bytes;
  if ((*mapped)->size() != sizeof head + arrays + head.extension_bytes) return std::nullopt;
  ShardIndex index;
  at += sizeof head;
  index.samples_ = {reinterpret_cast<const IndexedSample*>(at), head.samples};
  at += index.samples_.size_bytes();
  index.members_ = {reinterpret_cast<const ShardMember*>(at), head.members};
  at += index.members_.size_bytes();
  index.keys_ = {at, head.key_bytes};
  if (head.members > 0)
    index.extensions_ = Split({at + head.key_bytes, head.extension_bytes}, '\n');
  index.contents_crc_ = head.contents_crc;
  index.storage_ = std::move(*mapped);
  if (!index.IsSound()) return std::nullopt;
  return index;
}

bool ShardIndex::IsSound() const {
  const auto sample_ok = [this](const IndexedSample& sample) {
    return sample.key_begin <= keys_.size() && sample.key_size <= keys_.size() - sample.key_begin &&
           size_t{sample.first_member} + sample.num_members <= members_.size();
  };
  const auto member_ok = [this](const ShardMember& member) {
    return member.extension < extensions_.size();
  };
  return std::all_of(samples_.begin(), samples_.end(), sample_ok) &&
         std::all_of(members_.begin(), members_.end(), member_ok) &&
         ComputeContentsCrc() == contents_crc_;
}

std::string_view ShardIndex::key(int64_t sample) const {
  const IndexedSample& s = samples_[static_cast<size_t>(sample)];
  return keys_.substr(s.key_begin, s.key_size);
}

std::span<const ShardMember> ShardIndex::members(int64_t sample) const {
  const IndexedSample& s = samples_[static_cast<size_t>(sample)];
  return members_.subspan(s.first_member, s.num_members);
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
