// Files that say which samples (or tokens) of a shard make a row together: made once by whoever comes first, under a file lock,
// beside the shard or in data.index_dir, and used as long as their key and the shard stay. What text packs and packs of
// conversations share; the bytes are in FORMAT.md.
//
// Errors: those of the file system; DeadlineExceeded (another process has held the lock for 30 minutes).
// Thread rule: pure functions on files.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "cluster/base/status.h"

namespace weft {

// A shard as it lies on disk.
struct ShardIdentity {
  uint64_t bytes = 0;
  int64_t time_ns = 0;
};
StatusOr<ShardIdentity> IdentifyShard(const std::string& path);

// The head of a pack file, as it lies there.
struct PackHead {
  static constexpr size_t kHex = 64;

  char magic[8];
  uint32_t version;
  // What the kind of file says that they are.
  std::array<uint32_t, 3> numbers;
  // The shard as it was packed.
  ShardIdentity shard;
  uint64_t packs;
  uint64_t items;
  // SHA-256 of what was read of the shard, and of what else the packs depend on.
  char content[kHex];
  char key[kHex];
  uint32_t payload_crc;
  // CRC32C of all before it.
  uint32_t crc;
};
static_assert(sizeof(PackHead) == 192);

// What a file must be to be used.
struct PackFileKind {
  std::string_view magic;
  uint32_t version = 0;
  // Bytes of a pack's entry and of an item.
  uint64_t pack_bytes = 0;
  uint64_t item_bytes = 0;
};

// "DIR/.weft/NAME-0123456789abcdef.pack" of the shard "DIR/NAME", or in index_dir.
std::string PackFilePath(const std::string& shard, const std::string& index_dir,
                         const std::string& key);

// A head without sums: packs, items and numbers are the caller's to fill.
PackHead MakePackHead(const PackFileKind& kind, const ShardIdentity& shard,
                      const std::string& content, const std::string& key);
// Head (with its sum) and payload.
Status WritePackFile(const std::string& path, PackHead head, std::string_view payload);

// NotFound: no file of this kind, cut, damaged in its head, or of another key or shard. `content` computes the hash of the
// shard's content; it is called only where the shard was copied or touched since.
Status CheckPackHead(const PackHead& head, uint64_t file_bytes, const PackFileKind& kind,
                     const std::string& path, const std::string& key, const ShardIdentity& shard,
                     const std::function<StatusOr<std::string>()>& content);

// Calls `load` and, as long as that says NotFound, `build` under the file's lock, then `load` again.
Status LoadOrBuildPackFile(const std::string& path, const std::string& shard,
                           const std::function<Status()>& load,
                           const std::function<Status()>& build);

template <typename T>
void AppendRaw(const T& value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof value);
}

}  // namespace weft
