#include "dataloader/text_packs.h"

#include <sys/stat.h>

#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "cluster/base/clock.h"
#include "cluster/base/file_system.h"
#include "cluster/base/hash.h"
#include "cluster/base/logging.h"
#include "dataloader/bpe_tokenizer.h"
#include "dataloader/text_shard.h"

namespace weft {
namespace {

static_assert(std::endian::native == std::endian::little, "pack files are little-endian");

constexpr char kMagic[] = "WEFTPACK";
constexpr uint32_t kVersion = 1;
constexpr size_t kHex = 64;
constexpr auto kLockPoll = std::chrono::milliseconds(50);
constexpr auto kLockLimit = std::chrono::minutes(30);

// The head of a pack file, as it lies there.
struct Header {
  char magic[8];
  uint32_t version;
  uint32_t token_bytes;
  uint32_t block;
  int32_t start_id;
  // The shard as it was packed: size on disk, time, SHA-256 of its (inflated) bytes.
  uint64_t shard_bytes;
  int64_t shard_time_ns;
  uint64_t blocks;
  uint64_t tokens;
  char content[kHex];
  // SHA-256 of what else the blocks depend on.
  char key[kHex];
  uint32_t reserved;
  // CRC32C of all before it.
  uint32_t crc;
};
static_assert(sizeof(Header) == 192);

struct Entry {
  uint64_t first_token;
  uint32_t length;
  uint32_t crc;
};
static_assert(sizeof(Entry) == 16);

struct FileIdentity {
  uint64_t bytes = 0;
  int64_t time_ns = 0;
};

StatusOr<FileIdentity> Identify(const std::string& path) {
  struct stat info = {};
  if (::stat(path.c_str(), &info) != 0) return ErrnoStatus("open shard " + path, errno);
  return FileIdentity{static_cast<uint64_t>(info.st_size),
                      info.st_mtim.tv_sec * int64_t{1'000'000'000} + info.st_mtim.tv_nsec};
}

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

template <typename T>
void AppendRaw(const T& value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof value);
}

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
  WEFT_ASSIGN_OR_RETURN(const FileIdentity identity, Identify(shard));
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<ShardFile> file, ShardFile::Open(shard));
  WEFT_ASSIGN_OR_RETURN(const std::string content, ContentHash(*file));
  Packer packer(vocabulary, options.block);
  WEFT_RETURN_IF_ERROR(ReadSentences(*file, options.text_extensions,
                                     [&packer](std::string_view text) { packer.Add(text); }));
  packer.Finish();
  Header header = {};
  std::memcpy(header.magic, kMagic, sizeof header.magic);
  header.version = kVersion;
  header.token_bytes = vocabulary.size() <= 1 << 16 ? 2 : 4;
  header.block = static_cast<uint32_t>(options.block);
  header.start_id = vocabulary.start_id();
  header.shard_bytes = identity.bytes;
  header.shard_time_ns = identity.time_ns;
  header.blocks = packer.lengths().size();
  header.tokens = packer.tokens().size();
  std::memcpy(header.content, content.data(), kHex);
  std::memcpy(header.key, key.data(), kHex);
  header.crc = Crc32c(&header, offsetof(Header, crc));
  std::string bytes;
  AppendRaw(header, &bytes);
  bytes += Payload(packer, header.token_bytes);
  WEFT_RETURN_IF_ERROR(WriteFileDurably(PosixFileSystem(), path, bytes));
  WEFT_LOG(INFO) << "packed " << shard << " into " << header.blocks << " blocks of up to "
                 << options.block << " tokens in " << ToSeconds(Clock::now() - start) << " s";
  return OkStatus();
}

// "DIR/.weft/NAME-0123456789abcdef.pack".
std::string PackPath(const std::string& shard, const PackOptions& options, const std::string& key) {
  const std::string folder =
      options.index_dir.empty() ? JoinPath(ParentPath(shard), ".weft") : options.index_dir;
  return JoinPath(folder,
                  shard.substr(shard.find_last_of('/') + 1) + "-" + key.substr(0, 16) + ".pack");
}

}  // namespace

StatusOr<std::unique_ptr<TextPacks>> TextPacks::Open(const std::string& shard,
                                                     const BpeVocabulary& vocabulary,
                                                     const PackOptions& options) {
  if (options.block < 3) return InvalidArgument("a block must have at least 3 tokens");
  std::string what = "weft-pack 1\n" + std::to_string(options.block) + "\n";
  for (const std::string& extension : options.text_extensions) what += extension + ";";
  const std::string key = Sha256Hex(what + "\n" + vocabulary.Fingerprint());
  const std::string path = PackPath(shard, options, key);
  WEFT_RETURN_IF_ERROR(Identify(shard).status());
  const TimePoint deadline = Clock::now() + kLockLimit;
  while (true) {
    StatusOr<std::unique_ptr<TextPacks>> packs = Load(path, shard, key);
    if (packs.ok() || packs.status().code() != StatusCode::kNotFound) return packs;
    WEFT_RETURN_IF_ERROR(PosixFileSystem()->MakeDirs(ParentPath(path)));
    StatusOr<std::unique_ptr<FileLock>> lock = FileLock::TryAcquire(path + ".lock");
    if (lock.ok()) {
      // Another process may have made it between the look and the lock.
      packs = Load(path, shard, key);
      if (packs.ok() || packs.status().code() != StatusCode::kNotFound) return packs;
      const Status built = Build(path, shard, vocabulary, options, key);
      if (!built.ok()) return built.WithContext("packing " + shard);
      continue;
    }
    if (lock.status().code() != StatusCode::kAlreadyExists) return lock.status();
    if (Clock::now() > deadline) {
      return DeadlineExceeded("another process has been packing " + shard +
                              " for 30 minutes: " + lock.status().message());
    }
    std::this_thread::sleep_for(kLockPoll);
  }
}

StatusOr<std::unique_ptr<TextPacks>> TextPacks::Load(const std::string& path,
                                                     const std::string& shard,
                                                     const std::string& key) {
  WEFT_ASSIGN_OR_RETURN(const FileIdentity identity, Identify(shard));
  if (!PosixFileSystem()->Exists(path)) return NotFound(path);
  std::unique_ptr<TextPacks> packs(new TextPacks());
  WEFT_ASSIGN_OR_RETURN(packs->file_, ShardFile::Open(path));
  Header header = {};
  if (packs->file_->size() < sizeof header) return NotFound(path + " is too short");
  WEFT_RETURN_IF_ERROR(packs->file_->ReadAt(0, sizeof header, &header));
  const std::string content(header.content, kHex);
  const uint64_t size =
      sizeof header + header.blocks * sizeof(Entry) + header.tokens * header.token_bytes;
  if (std::memcmp(header.magic, kMagic, sizeof header.magic) != 0 || header.version != kVersion ||
      header.crc != Crc32c(&header, offsetof(Header, crc)) ||
      std::string(header.key, kHex) != key || packs->file_->size() != size) {
    return NotFound(path + " is no pack file of this version");
  }
  if (header.shard_bytes != identity.bytes) return NotFound(path + " is of another shard");
  if (header.shard_time_ns != identity.time_ns) {
    // Copied or touched: the bytes decide.
    WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<ShardFile> file, ShardFile::Open(shard));
    WEFT_ASSIGN_OR_RETURN(const std::string now, ContentHash(*file));
    if (now != content) return NotFound(path + " is of another shard");
  }
  packs->shard_ = shard;
  packs->fingerprint_ = Sha256Hex(content + key);
  packs->num_blocks_ = static_cast<int64_t>(header.blocks);
  packs->num_tokens_ = static_cast<int64_t>(header.tokens);
  packs->start_id_ = header.start_id;
  packs->token_bytes_ = header.token_bytes;
  return packs;
}

StatusOr<int64_t> TextPacks::Length(int64_t block) const {
  WEFT_CHECK(block >= 0 && block < num_blocks_) << block << " of " << num_blocks_;
  Entry entry = {};
  const uint64_t at = sizeof(Header) + static_cast<uint64_t>(block) * sizeof(Entry);
  WEFT_RETURN_IF_ERROR(file_->ReadAt(at, sizeof entry, &entry));
  return int64_t{1} + entry.length;
}

Status TextPacks::Read(int64_t block, std::vector<int32_t>* ids) const {
  WEFT_CHECK(block >= 0 && block < num_blocks_) << block << " of " << num_blocks_;
  Entry entry = {};
  const auto index = static_cast<uint64_t>(block);
  WEFT_RETURN_IF_ERROR(file_->ReadAt(sizeof(Header) + index * sizeof(Entry), sizeof entry, &entry));
  const auto bytes = entry.length * token_bytes_;
  std::string tokens(bytes, '\0');
  const uint64_t begin = sizeof(Header) + static_cast<uint64_t>(num_blocks_) * sizeof(Entry);
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
