#include "dataloader/column_overlay.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "cluster/base/file_system.h"
#include "cluster/base/hash.h"

namespace weft {
namespace {

constexpr std::string_view kMagic = "WEFTCOL1";
constexpr size_t kHash = 64;

struct Head {
  char magic[8];
  uint32_t shards;
  uint32_t name_bytes;
  uint64_t entries;
  uint64_t value_bytes;
  uint32_t reserved;
  uint32_t crc;  // CRC32C of what stands before it
};
static_assert(sizeof(Head) == 40);

size_t RoundUp8(size_t size) { return (size + 7) / 8 * 8; }

uint32_t HeadCrc(const Head& head) { return Crc32c(&head, offsetof(Head, crc)); }

}  // namespace

StatusOr<std::unique_ptr<ColumnOverlay>> ColumnOverlay::Open(
    const std::string& path, const std::string& sha256, std::span<const uint64_t> shard_samples) {
  std::unique_ptr<ColumnOverlay> column(new ColumnOverlay(path));
  WEFT_ASSIGN_OR_RETURN(column->file_, MappedFile::Open(path));
  const std::string_view bytes(column->file_->data(), column->file_->size());
  const Status broken =
      Corruption(path + ": the column is cut or changed; make it again with `weft data overlay`");
  Head head;
  if (bytes.size() < sizeof head + kHash) return broken;
  std::memcpy(&head, bytes.data(), sizeof head);
  if (std::string_view(head.magic, 8) != kMagic || head.crc != HeadCrc(head)) return broken;
  if (bytes.substr(bytes.size() - kHash) != sha256)
    return Corruption(path + " is not the column that the manifest was made with");
  // Each is at most the file, so the sum does not wrap.
  if (std::max({uint64_t{head.name_bytes}, head.entries, head.value_bytes}) > bytes.size() ||
      head.shards != shard_samples.size()) {
    return broken;
  }
  const size_t first_begin = sizeof head + RoundUp8(head.name_bytes);
  const size_t entries_begin = first_begin + 8 * (size_t{head.shards} + 1);
  const size_t values_begin = entries_begin + sizeof(Entry) * head.entries;
  if (values_begin + head.value_bytes + kHash != bytes.size()) return broken;
  column->name_ = bytes.substr(sizeof head, head.name_bytes);
  column->first_ = {reinterpret_cast<const uint64_t*>(bytes.data() + first_begin),
                    size_t{head.shards} + 1};
  column->entries_ = {reinterpret_cast<const Entry*>(bytes.data() + entries_begin), head.entries};
  column->values_ = bytes.substr(values_begin, head.value_bytes);
  if (column->first_.front() != 0 || column->first_.back() != head.entries) return broken;
  for (size_t shard = 0; shard < shard_samples.size(); ++shard) {
    const uint64_t begin = column->first_[shard];
    const uint64_t end = column->first_[shard + 1];
    if (end < begin || end - begin > shard_samples[shard]) return broken;
  }
  return column;
}

const ColumnOverlay::Entry* ColumnOverlay::Find(int64_t shard, int64_t index) const {
  if (shard < 0 || static_cast<size_t>(shard) + 1 >= first_.size()) return nullptr;
  const auto begin =
      entries_.begin() + static_cast<std::ptrdiff_t>(first_[static_cast<size_t>(shard)]);
  const auto end =
      entries_.begin() + static_cast<std::ptrdiff_t>(first_[static_cast<size_t>(shard) + 1]);
  // A column with a value for every sample has it at the index itself.
  if (index < end - begin && (begin + index)->index == index) return &*(begin + index);
  const auto found = std::lower_bound(
      begin, end, index, [](const Entry& entry, int64_t wanted) { return entry.index < wanted; });
  return found == end || found->index != index ? nullptr : &*found;
}

StatusOr<std::optional<std::string_view>> ColumnOverlay::Read(int64_t shard, int64_t index) const {
  const Entry* entry = Find(shard, index);
  if (entry == nullptr) return std::optional<std::string_view>();
  if (entry->begin <= values_.size() && entry->size <= values_.size() - entry->begin) {
    const std::string_view value = values_.substr(entry->begin, entry->size);
    if (Crc32c(value.data(), value.size()) == entry->crc) return std::optional(value);
  }
  // Not a bad sample: the data set itself is damaged.
  return Unavailable(path_ + ": the value of sample " + std::to_string(index) + " of shard " +
                     std::to_string(shard) +
                     " is damaged; make the column again with `weft data overlay`");
}

StatusOr<std::string> WriteColumnOverlay(const std::string& path, const std::string& name,
                                         size_t num_shards, std::vector<ColumnValue> values) {
  std::stable_sort(values.begin(), values.end(), [](const ColumnValue& a, const ColumnValue& b) {
    return std::pair(a.shard, a.index) < std::pair(b.shard, b.index);
  });
  std::vector<uint64_t> first(num_shards + 1);
  std::vector<ColumnOverlay::Entry> entries;
  std::string blob;
  for (size_t i = 0; i < values.size(); ++i) {
    const ColumnValue& value = values[i];
    if (i + 1 < values.size() && values[i + 1].shard == value.shard &&
        values[i + 1].index == value.index) {
      continue;
    }
    entries.push_back({blob.size(), static_cast<uint32_t>(value.value.size()),
                       static_cast<uint32_t>(value.index),
                       Crc32c(value.value.data(), value.value.size()), 0});
    blob += value.value;
    ++first[static_cast<size_t>(value.shard) + 1];
  }
  for (size_t shard = 0; shard < num_shards; ++shard) first[shard + 1] += first[shard];
  Head head = {};
  std::memcpy(head.magic, kMagic.data(), sizeof head.magic);
  head.shards = static_cast<uint32_t>(num_shards);
  head.name_bytes = static_cast<uint32_t>(name.size());
  head.entries = entries.size();
  head.value_bytes = blob.size();
  head.crc = HeadCrc(head);
  std::string bytes(reinterpret_cast<const char*>(&head), sizeof head);
  bytes += name;
  bytes.resize(sizeof head + RoundUp8(name.size()));
  bytes.append(reinterpret_cast<const char*>(first.data()), first.size() * 8);
  bytes.append(reinterpret_cast<const char*>(entries.data()),
               entries.size() * sizeof(ColumnOverlay::Entry));
  bytes += blob;
  const std::string hash = Sha256Hex(bytes);
  WEFT_RETURN_IF_ERROR(WriteFileDurably(PosixFileSystem(), path, bytes + hash));
  return hash;
}

}  // namespace weft
