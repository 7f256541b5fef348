#include "dataloader/shard_index.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "cluster/base/file_system.h"
#include "cluster/base/hash.h"
#include "cluster/base/text.h"
#include "dataloader/json_records.h"
#include "dataloader/mapped_file.h"
#include "dataloader/mds_shard.h"
#include "dataloader/read_ahead.h"
#include "dataloader/shard_index_builder.h"
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
  uint32_t format;
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

Status AddTarSamples(const ShardBytes& bytes, ShardIndexBuilder* builder) {
  TarReader reader(bytes);
  std::string key;
  std::string extension;
  while (true) {
    WEFT_ASSIGN_OR_RETURN(const std::optional<TarMember> member, reader.Next());
    if (!member) return OkStatus();
    if (!SplitMemberName(member->name, &key, &extension)) continue;
    if (builder->empty() || builder->last_key() != key)
      WEFT_RETURN_IF_ERROR(builder->BeginSample(key, member->begin));
    WEFT_RETURN_IF_ERROR(builder->AddMember(extension, member->data_offset, member->size));
  }
}

// What is none of the others is taken as a tar, whose reader says what is wrong.
ShardFormat SniffFormat(const ShardBytes& bytes) {
  if (LooksLikeTar(bytes)) return ShardFormat::kTar;
  if (LooksLikeMds(bytes)) return ShardFormat::kMds;
  return LooksLikeJson(bytes) ? ShardFormat::kJson : ShardFormat::kTar;
}

}  // namespace

StatusOr<ShardIndex> ShardIndex::Build(const ShardFile& file, CutShards cut_shards) {
  return Build(file, cut_shards, false);
}

StatusOr<ShardIndex> ShardIndex::BuildWithChecksums(const ShardFile& file, CutShards cut_shards) {
  const ReadAhead ahead(file);
  return Build(ahead, cut_shards, true);
}

StatusOr<ShardIndex> ShardIndex::Build(const ShardBytes& bytes, CutShards cut_shards,
                                       bool checksums) {
  const ShardFormat format = SniffFormat(bytes);
  ShardIndexBuilder builder(bytes, format, checksums);
  Status cut;
  switch (format) {
    case ShardFormat::kTar:
      cut = AddTarSamples(bytes, &builder);
      break;
    case ShardFormat::kMds:
      cut = AddMdsSamples(bytes, &builder);
      break;
    case ShardFormat::kJson:
      cut = AddJsonSamples(bytes, &builder);
      break;
  }
  if (!cut.ok() && (cut_shards == CutShards::kRefuse || cut.code() != StatusCode::kCorruption))
    return cut;
  if (!cut.ok()) builder.DropLast();
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
  head.format = static_cast<uint32_t>(format_);
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
      head.inflated_bytes != file.size() ||
      head.format > static_cast<uint32_t>(ShardFormat::kJson)) {
    return std::nullopt;
  }
  // Each of them is at most the file, so the sum below does not wrap.
  if (std::max({head.samples, head.members, head.key_bytes}) > (*mapped)->size())
    return std::nullopt;
  const size_t arrays =
      head.samples * sizeof(IndexedSample) + head.members * sizeof(ShardMember) + head.key_bytes;
  if ((*mapped)->size() != sizeof head + arrays + head.extension_bytes) return std::nullopt;
  ShardIndex index;
  index.format_ = static_cast<ShardFormat>(head.format);
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
