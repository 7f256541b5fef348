#include "dataloader/pack_file.h"

#include <sys/stat.h>

#include <bit>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <memory>
#include <thread>

#include "cluster/base/clock.h"
#include "cluster/base/file_system.h"
#include "cluster/base/hash.h"
#include "cluster/base/logging.h"

namespace weft {
namespace {

static_assert(std::endian::native == std::endian::little, "pack files are little-endian");

constexpr auto kLockPoll = std::chrono::milliseconds(50);
constexpr auto kLockLimit = std::chrono::minutes(30);

bool NeedsBuild(const Status& loaded) { return loaded.code() == StatusCode::kNotFound; }

}  // namespace

StatusOr<ShardIdentity> IdentifyShard(const std::string& path) {
  struct stat info = {};
  if (::stat(path.c_str(), &info) != 0) return ErrnoStatus("open shard " + path, errno);
  return ShardIdentity{static_cast<uint64_t>(info.st_size),
                       info.st_mtim.tv_sec * int64_t{1'000'000'000} + info.st_mtim.tv_nsec};
}

std::string PackFilePath(const std::string& shard, const std::string& index_dir,
                         const std::string& key) {
  const std::string folder = index_dir.empty() ? JoinPath(ParentPath(shard), ".weft") : index_dir;
  return JoinPath(folder,
                  shard.substr(shard.find_last_of('/') + 1) + "-" + key.substr(0, 16) + ".pack");
}

PackHead MakePackHead(const PackFileKind& kind, const ShardIdentity& shard,
                      const std::string& content, const std::string& key) {
  WEFT_CHECK(content.size() == PackHead::kHex && key.size() == PackHead::kHex);
  PackHead head = {};
  std::memcpy(head.magic, kind.magic.data(), sizeof head.magic);
  head.version = kind.version;
  head.shard = shard;
  std::memcpy(head.content, content.data(), PackHead::kHex);
  std::memcpy(head.key, key.data(), PackHead::kHex);
  return head;
}

Status WritePackFile(const std::string& path, PackHead head, std::string_view payload) {
  head.crc = Crc32c(&head, offsetof(PackHead, crc));
  std::string bytes;
  bytes.reserve(sizeof head + payload.size());
  AppendRaw(head, &bytes);
  bytes += payload;
  return WriteFileDurably(PosixFileSystem(), path, bytes);
}

Status CheckPackHead(const PackHead& head, uint64_t file_bytes, const PackFileKind& kind,
                     const std::string& path, const std::string& key, const ShardIdentity& shard,
                     const std::function<StatusOr<std::string>()>& content) {
  const auto size = static_cast<unsigned __int128>(sizeof head) +
                    static_cast<unsigned __int128>(head.packs) * kind.pack_bytes +
                    static_cast<unsigned __int128>(head.items) * kind.item_bytes;
  if (std::memcmp(head.magic, kind.magic.data(), sizeof head.magic) != 0 ||
      head.version != kind.version || head.crc != Crc32c(&head, offsetof(PackHead, crc)) ||
      std::string(head.key, PackHead::kHex) != key || size != file_bytes) {
    return NotFound(path + " is no pack file of this version");
  }
  if (head.shard.bytes != shard.bytes) return NotFound(path + " is of another shard");
  if (head.shard.time_ns == shard.time_ns) return OkStatus();
  // Copied or touched: the bytes decide.
  WEFT_ASSIGN_OR_RETURN(const std::string now, content());
  if (now != std::string(head.content, PackHead::kHex))
    return NotFound(path + " is of another shard");
  return OkStatus();
}

Status LoadOrBuildPackFile(const std::string& path, const std::string& shard,
                           const std::function<Status()>& load,
                           const std::function<Status()>& build) {
  const TimePoint deadline = Clock::now() + kLockLimit;
  while (true) {
    Status loaded = load();
    if (!NeedsBuild(loaded)) return loaded;
    WEFT_RETURN_IF_ERROR(PosixFileSystem()->MakeDirs(ParentPath(path)));
    StatusOr<std::unique_ptr<FileLock>> lock = FileLock::TryAcquire(path + ".lock");
    if (lock.ok()) {
      // Another process may have made it between the look and the lock.
      loaded = load();
      if (!NeedsBuild(loaded)) return loaded;
      const Status built = build();
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

}  // namespace weft
