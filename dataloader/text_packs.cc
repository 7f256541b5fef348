#include "dataloader/text_packs.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "cluster/base/clock.h"
#include "cluster/base/file_system.h"
#include "cluster/base/hash.h"
#include "cluster/base/logging.h"
#include "dataloader/bpe_tokenizer.h"
#include "dataloader/pack_file.h"
#include "dataloader/text_shard.h"

namespace weft {
namespace {

// Numbers of the head: bytes of a token, S, id of <s>; items are tokens.
PackFileKind TextKind(uint64_t token_bytes) { return {"WEFTPACK", 1, 16, token_bytes}; }

struct Entry {
  uint64_t first_token;
  uint32_t length;
  uint32_t crc;
};
static_assert(sizeof(Entry) == 16);

// Sentences in, blocks out.
class Packer {
 public:
  Packer(const BpeVocabulary& vocabulary, int block)
      : tokenizer_(vocabulary),
        end_id_(vocabulary.end_id()),
        room_(static_cast<size_t>(block - 1)) {}

  void Add(std::string_view sentence) {
    ids_.clear();
    tokenizer_.EncodeTo(sentence, &ids_);
    ids_.push_back(end_id_);
    for (size_t at = 0; at < ids_.size(); at += room_)
      AddPiece(std::min(room_, ids_.size() - at), ids_.data() + at);
  }

  void Finish() {
    if (open_ == 0) return;
    lengths_.push_back(static_cast<uint32_t>(open_));
    open_ = 0;
  }

  const std::vector<int32_t>& tokens() const { return tokens_; }
  // Tokens of each block, without <s>.
  const std::vector<uint32_t>& lengths() const { return lengths_; }

 private:
  void AddPiece(size_t count, const int32_t* ids) {
    if (open_ + count > room_) Finish();
    tokens_.insert(tokens_.end(), ids, ids + count);
    open_ += count;
  }

  BpeTokenizer tokenizer_;
  const int32_t end_id_;
  const size_t room_;
  std::vector<int32_t> ids_;
  std::vector<int32_t> tokens_;
  std::vector<uint32_t> lengths_;
  size_t open_ = 0;
};

// Entries and tokens, as they lie in the file.
std::string Payload(const Packer& packer, size_t token_bytes) {
  std::string tokens;
  for (const int32_t id : packer.tokens())
    tokens.append(reinterpret_cast<const char*>(&id), token_bytes);
  std::string payload;
  uint64_t first = 0;
  for (const uint32_t length : packer.lengths()) {
    const uint32_t crc = Crc32c(tokens.data() + first * token_bytes, length * token_bytes);
    AppendRaw(Entry{first, length, crc}, &payload);
    first += length;
  }
  return payload + tokens;
}

Status Build(const std::string& path, const std::string& shard, const BpeVocabulary& vocabulary,
             const PackOptions& options, const std::string& key) {
  const TimePoint start = Clock::now();
  WEFT_ASSIGN_OR_RETURN(const ShardIdentity identity, IdentifyShard(shard));
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<ShardFile> file, ShardFile::Open(shard));
  WEFT_ASSIGN_OR_RETURN(const std::string content, ContentHash(*file));
  Packer packer(vocabulary, options.block);
  WEFT_RETURN_IF_ERROR(ReadSentences(*file, options.text_extensions,
                                     [&packer](std::string_view text) { packer.Add(text); }));
  packer.Finish();
  const uint32_t token_bytes = vocabulary.size() <= 1 << 16 ? 2 : 4;
  PackHead head = MakePackHead(TextKind(token_bytes), identity, content, key);
  head.numbers = {token_bytes, static_cast<uint32_t>(options.block),
                  static_cast<uint32_t>(vocabulary.start_id())};
  head.packs = packer.lengths().size();
  head.items = packer.tokens().size();
  WEFT_RETURN_IF_ERROR(WritePackFile(path, head, Payload(packer, token_bytes)));
  WEFT_LOG(INFO) << "packed " << shard << " into " << head.packs << " blocks of up to "
                 << options.block << " tokens in " << ToSeconds(Clock::now() - start) << " s";
  return OkStatus();
}

}  // namespace

StatusOr<std::unique_ptr<TextPacks>> TextPacks::Open(const std::string& shard,
                                                     const BpeVocabulary& vocabulary,
                                                     const PackOptions& options) {
  if (options.block < 3) return InvalidArgument("a block must have at least 3 tokens");
  std::string what = "weft-pack 1\n" + std::to_string(options.block) + "\n";
  for (const std::string& extension : options.text_extensions) what += extension + ";";
  const std::string key = Sha256Hex(what + "\n" + vocabulary.Fingerprint());
  const std::string path = PackFilePath(shard, options.index_dir, key);
  WEFT_RETURN_IF_ERROR(IdentifyShard(shard).status());
  std::unique_ptr<TextPacks> packs;
  WEFT_RETURN_IF_ERROR(LoadOrBuildPackFile(
      path, shard,
      [&]() -> Status {
        WEFT_ASSIGN_OR_RETURN(packs, Load(path, shard, key));
        return OkStatus();
      },
      [&] { return Build(path, shard, vocabulary, options, key); }));
  return packs;
}

StatusOr<std::unique_ptr<TextPacks>> TextPacks::Load(const std::string& path,
                                                     const std::string& shard,
                                                     const std::string& key) {
  WEFT_ASSIGN_OR_RETURN(const ShardIdentity identity, IdentifyShard(shard));
  if (!PosixFileSystem()->Exists(path)) return NotFound(path);
  std::unique_ptr<TextPacks> packs(new TextPacks());
  WEFT_ASSIGN_OR_RETURN(packs->file_, ShardFile::Open(path));
  PackHead head = {};
  if (packs->file_->size() < sizeof head) return NotFound(path + " is too short");
  WEFT_RETURN_IF_ERROR(packs->file_->ReadAt(0, sizeof head, &head));
  WEFT_RETURN_IF_ERROR(CheckPackHead(head, packs->file_->size(), TextKind(head.numbers[0]), path,
                                     key, identity, [&shard]() -> StatusOr<std::string> {
                                       WEFT_ASSIGN_OR_RETURN(const auto file,
                                                             ShardFile::Open(shard));
                                       return ContentHash(*file);
                                     }));
  packs->shard_ = shard;
  packs->fingerprint_ = Sha256Hex(std::string(head.content, PackHead::kHex) + key);
  packs->num_blocks_ = static_cast<int64_t>(head.packs);
  packs->num_tokens_ = static_cast<int64_t>(head.items);
  packs->token_bytes_ = head.numbers[0];
  packs->start_id_ = static_cast<int32_t>(head.numbers[2]);
  return packs;
}

StatusOr<int64_t> TextPacks::Length(int64_t block) const {
  WEFT_CHECK(block >= 0 && block < num_blocks_) << block << " of " << num_blocks_;
  Entry entry = {};
  const uint64_t at = sizeof(PackHead) + static_cast<uint64_t>(block) * sizeof(Entry);
  WEFT_RETURN_IF_ERROR(file_->ReadAt(at, sizeof entry, &entry));
  return int64_t{1} + entry.length;
}

StatusOr<uint64_t> TextPacks::StoredBytes(int64_t begin, int64_t end) const {
  uint64_t bytes = 0;
  for (int64_t block = begin; block < end; ++block) {
    WEFT_ASSIGN_OR_RETURN(const int64_t length, Length(block));
    bytes += sizeof(Entry) + static_cast<uint64_t>(length - 1) * token_bytes_;
  }
  return bytes;
}

Status TextPacks::Read(int64_t block, std::vector<int32_t>* ids) const {
  WEFT_CHECK(block >= 0 && block < num_blocks_) << block << " of " << num_blocks_;
  Entry entry = {};
  const auto index = static_cast<uint64_t>(block);
  WEFT_RETURN_IF_ERROR(
      file_->ReadAt(sizeof(PackHead) + index * sizeof(Entry), sizeof entry, &entry));
  const auto bytes = entry.length * token_bytes_;
  std::string tokens(bytes, '\0');
  const uint64_t begin = sizeof(PackHead) + static_cast<uint64_t>(num_blocks_) * sizeof(Entry);
  if (entry.first_token + entry.length > static_cast<uint64_t>(num_tokens_)) return Damaged(block);
  WEFT_RETURN_IF_ERROR(
      file_->ReadAt(begin + entry.first_token * token_bytes_, bytes, tokens.data()));
  if (Crc32c(tokens.data(), bytes) != entry.crc) return Damaged(block);
  ids->assign(1 + entry.length, 0);
  (*ids)[0] = start_id_;
  for (size_t i = 0; i < entry.length; ++i)
    std::memcpy(ids->data() + 1 + i, tokens.data() + i * token_bytes_, token_bytes_);
  return OkStatus();
}

Status TextPacks::Damaged(int64_t block) const {
  // Not Corruption: that would be a bad sample, which is replaced.
  return Unavailable("pack file " + file_->path() + ", block " + std::to_string(block) +
                     " is damaged; remove the file, and it is made again");
}

}  // namespace weft
