#include "dataloader/conversation_packs.h"

#include <algorithm>
#include <cstring>
#include <iomanip>
#include <utility>

#include "cluster/base/clock.h"
#include "cluster/base/file_system.h"
#include "cluster/base/hash.h"
#include "cluster/base/logging.h"
#include "dataloader/conversation_packer.h"

namespace weft {
namespace {

// Numbers of the head: S, P, positions of a picture.
constexpr PackFileKind kKind = {"WEFTCONV", 1, sizeof(ConversationPack), sizeof(PackMember)};

std::string_view Bytes(const auto& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(values[0])};
}

// All that lengths and packs depend on beside the texts.
std::string KeyOf(const ConversationSet& conversations, const DataSet::ShardView& shard) {
  const LoaderOptions& options = conversations.options;
  std::string what = "weft-conversation-pack 1\n";
  for (const int number : {options.context_length, options.patches, options.pictures,
                           static_cast<int>(options.data.conversation().version())})
    what += std::to_string(number) + "\n";
  // A text of any bytes goes in by its length.
  for (const std::string& text : {options.data.conversation().system(), options.text_field})
    what += std::to_string(text.size()) + ":" + text + "\n";
  for (const auto* extensions : {&conversations.image_extensions, &conversations.text_extensions,
                                 &conversations.json_extensions}) {
    for (const std::string& extension : *extensions) what += extension + ";";
    what += "\n";
  }
  return Sha256Hex(what + shard.fingerprint + "\n" + conversations.vocabulary->Fingerprint());
}

Status Build(const ConversationSet& conversations, const DataSet::ShardView& shard,
             const std::string& path, const std::string& key) {
  const TimePoint start = Clock::now();
  WEFT_ASSIGN_OR_RETURN(const PackedShard packed, PackConversations(conversations, shard));
  const LoaderOptions& options = conversations.options;
  PackHead head = MakePackHead(kKind, {shard.disk_bytes, shard.disk_time}, packed.content, key);
  head.numbers = {static_cast<uint32_t>(options.context_length),
                  static_cast<uint32_t>(options.pictures), static_cast<uint32_t>(options.patches)};
  head.packs = packed.packs.size();
  head.items = packed.members.size();
  std::string payload(Bytes(packed.packs));
  payload += Bytes(packed.members);
  head.payload_crc = Crc32c(payload.data(), payload.size());
  WEFT_RETURN_IF_ERROR(WritePackFile(path, head, payload));
  uint64_t tokens = 0;
  for (const ConversationPack& pack : packed.packs) tokens += pack.tokens;
  const double room = static_cast<double>(head.packs) * options.context_length;
  WEFT_LOG(INFO) << "packed " << head.items << " conversations of " << shard.path << " into "
                 << head.packs << " rows, " << std::fixed << std::setprecision(1)
                 << 100 * static_cast<double>(tokens) / std::max(room, 1.0) << " % full, in "
                 << ToSeconds(Clock::now() - start) << " s";
  if (packed.left_out > 0) {
    WEFT_LOG(WARNING) << packed.left_out << " conversations of " << shard.path
                      << " are in no row; the first one: " << packed.first_left_out;
  }
  return OkStatus();
}

struct LoadedTable {
  std::shared_ptr<const MappedFile> file;
  PackTable table;
  std::string content;
};

Status Load(const ConversationSet& conversations, const DataSet::ShardView& shard,
            const std::string& path, const std::string& key, LoadedTable* loaded) {
  if (!PosixFileSystem()->Exists(path)) return NotFound(path);
  WEFT_ASSIGN_OR_RETURN(loaded->file, MappedFile::Open(path));
  const std::string_view bytes(loaded->file->data(), loaded->file->size());
  PackHead head = {};
  if (bytes.size() < sizeof head) return NotFound(path + " is too short");
  std::memcpy(&head, bytes.data(), sizeof head);
  WEFT_RETURN_IF_ERROR(CheckPackHead(head, bytes.size(), kKind, path, key,
                                     {shard.disk_bytes, shard.disk_time},
                                     [&] { return ConversationContent(conversations, shard); }));
  const PackLimits limits = {static_cast<uint64_t>(shard.end - shard.first),
                             static_cast<uint32_t>(conversations.options.context_length),
                             static_cast<uint32_t>(conversations.options.pictures)};
  StatusOr<PackTable> table = PackTable::Parse(head, bytes.substr(sizeof head), limits);
  if (!table.ok()) return NotFound(path + ": " + table.status().message());
  loaded->table = *table;
  loaded->content.assign(head.content, PackHead::kHex);
  return OkStatus();
}

Status Damaged(const std::string& what) { return Corruption("the table of packs " + what); }

// The pack's own sums, and that its members are samples of the shard, rising.
Status CheckPack(const ConversationPack& pack, std::span<const PackMember> members,
                 const PackLimits& limits) {
  uint64_t tokens = 0;
  uint64_t squares = 0;
  for (size_t i = 0; i < members.size(); ++i) {
    if (members[i].sample >= limits.samples) return Damaged("names a sample that is not there");
    if (i > 0 && members[i].sample <= members[i - 1].sample) return Damaged("is not in order");
    if (members[i].tokens < 1 || members[i].tokens > limits.tokens)
      return Damaged("has a conversation of " + std::to_string(members[i].tokens) + " tokens");
    tokens += members[i].tokens;
    squares += uint64_t{members[i].tokens} * members[i].tokens;
  }
  if (tokens != pack.tokens || tokens > limits.tokens || squares != pack.squares ||
      pack.pictures > limits.pictures || pack.pictures > members.size())
    return Damaged("has a row of other sums than its conversations");
  return OkStatus();
}

}  // namespace

StatusOr<PackTable> PackTable::Parse(const PackHead& head, std::string_view payload,
                                     const PackLimits& limits) {
  if (head.packs > payload.size() / sizeof(ConversationPack))
    return Damaged("ends in the middle of its packs");
  const size_t packs_bytes = head.packs * sizeof(ConversationPack);
  if ((payload.size() - packs_bytes) / sizeof(PackMember) != head.items ||
      (payload.size() - packs_bytes) % sizeof(PackMember) != 0)
    return Damaged("has another size than its head says");
  if (Crc32c(payload.data(), payload.size()) != head.payload_crc)
    return Damaged("has a wrong checksum");
  PackTable table;
  table.packs = {reinterpret_cast<const ConversationPack*>(payload.data()), head.packs};
  table.members = {reinterpret_cast<const PackMember*>(payload.data() + packs_bytes), head.items};
  uint64_t next = 0;
  for (const ConversationPack& pack : table.packs) {
    if (pack.first_member != next || pack.members < 1 || pack.members > head.items - next)
      return Damaged("has a row whose conversations are not there");
    WEFT_RETURN_IF_ERROR(CheckPack(pack, table.MembersOf(pack), limits));
    next += pack.members;
  }
  if (next != head.items) return Damaged("has conversations that are in no row");
  return table;
}

StatusOr<ConversationPacks> ConversationPacks::Open(const ConversationSet& conversations) {
  ConversationPacks packs;
  packs.context_length_ = conversations.options.context_length;
  std::vector<std::string> extensions = conversations.text_extensions;
  for (const auto* more : {&conversations.json_extensions, &conversations.image_extensions})
    extensions.insert(extensions.end(), more->begin(), more->end());
  std::string identity = "weft-conversation-packs 1\n" + conversations.set->manifest_hash() + "\n";
  for (const DataSet::ShardView& shard : conversations.set->ShardViews(extensions)) {
    const std::string key = KeyOf(conversations, shard);
    const std::string path = PackFilePath(shard.path, conversations.options.data.index_dir(), key);
    LoadedTable loaded;
    WEFT_RETURN_IF_ERROR(LoadOrBuildPackFile(
        path, shard.path, [&] { return Load(conversations, shard, path, key, &loaded); },
        [&] { return Build(conversations, shard, path, key); }));
    identity += Sha256Hex(loaded.content + key) + "\n";
    for (const ConversationPack& pack : loaded.table.packs) packs.num_tokens_ += pack.tokens;
    const auto members = static_cast<int64_t>(loaded.table.members.size());
    packs.num_members_ += members;
    packs.num_left_out_ += shard.end - shard.first - members;
    packs.first_pack_.push_back(packs.num_packs() +
                                static_cast<int64_t>(loaded.table.packs.size()));
    packs.shards_.push_back({std::move(loaded.file), loaded.table, shard.first});
  }
  packs.fingerprint_ = Sha256Hex(identity);
  return packs;
}

std::vector<uint64_t> ConversationPacks::ShardSizes() const {
  std::vector<uint64_t> sizes;
  for (const Shard& shard : shards_) sizes.push_back(shard.table.packs.size());
  return sizes;
}

double ConversationPacks::fill() const {
  const double room = static_cast<double>(num_packs()) * context_length_;
  return room == 0 ? 0 : static_cast<double>(num_tokens_) / room;
}

ConversationPacks::View ConversationPacks::Find(int64_t pack) const {
  WEFT_CHECK(pack >= 0 && pack < num_packs()) << pack << " of " << num_packs();
  const auto after = std::upper_bound(first_pack_.begin(), first_pack_.end(), pack);
  const auto shard = static_cast<size_t>(after - first_pack_.begin()) - 1;
  const auto number = static_cast<size_t>(pack - first_pack_[shard]);
  const Shard& of = shards_[shard];
  const ConversationPack& found = of.table.packs[number];
  return {static_cast<int64_t>(shard), static_cast<int64_t>(number), of.first_id, &found,
          of.table.MembersOf(found)};
}

}  // namespace weft
