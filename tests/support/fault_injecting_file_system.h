// A file system in memory that forgets and fails as real ones do: data that was not synced, names whose directory was not
// synced, the last write torn at 512 bytes, a full disk, an error or the end of the process at the n-th call.
//
// Calls that change something are counted from 1: create, append, sync, truncate, mkdir, rename, link, remove, sync of a
// directory. Thread rule: one thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "cluster/base/file_system.h"

namespace weft {

enum class CrashMode {
  kProcessDied,   // kill -9: the kernel still has everything
  kPowerCut,      // only what was synced is left
  kRandomRemains  // of what was not synced, any part may be left
};

class FaultInjectingFileSystem : public FileSystem {
 public:
  FaultInjectingFileSystem() : root_(NewDirectory()) {}

  // ---- faults
  // Call number `call` (counted from now, 1 is the next one) fails with `status`; an append has written half by then.
  void FailCall(int64_t call, Status status) { fail_ = {{num_calls_ + call, std::move(status)}}; }
  // The process dies after `calls` more calls: later ones do nothing and fail.
  void StopAfter(int64_t calls) { stop_after_ = num_calls_ + calls; }
  // Bytes that all files together may have; nothing: no limit.
  void SetCapacity(std::optional<uint64_t> bytes) { capacity_ = bytes; }
  void ClearFaults();
  // The machine comes up again: forgets what the mode lets it forget, and all faults.
  void Crash(CrashMode mode, uint64_t seed = 0);

  int64_t num_calls() const { return num_calls_; }
  uint64_t used_bytes() const;
  // Changes bytes behind everybody's back, on disk too.
  void FlipBit(const std::string& path, uint64_t bit);
  void CutFile(const std::string& path, uint64_t size);
  void AddBytes(const std::string& path, const std::string& bytes);

  // ---- FileSystem
  StatusOr<std::unique_ptr<WritableFile>> CreateExclusive(const std::string& path) override;
  StatusOr<std::unique_ptr<WritableFile>> OpenAppend(const std::string& path) override;
  StatusOr<std::string> ReadFile(const std::string& path) override;
  Status ReadRange(const std::string& path, uint64_t offset, size_t size, void* out) override;
  StatusOr<uint64_t> FileSize(const std::string& path) override;
  bool Exists(const std::string& path) override;
  StatusOr<std::vector<std::string>> ListDir(const std::string& path) override;
  Status MakeDirs(const std::string& path) override;
  Status Rename(const std::string& from, const std::string& to) override;
  Status Link(const std::string& from, const std::string& to) override;
  Status Remove(const std::string& path) override;
  Status RemoveTree(const std::string& path) override;
  Status SyncDir(const std::string& path) override;

 private:
  friend class FaultInjectingFile;
  struct Node;
  using NodePtr = std::shared_ptr<Node>;
  using Entries = std::map<std::string, NodePtr>;
  struct Node {
    bool directory = false;
    std::string data;
    std::string synced;
    Entries entries;
    Entries synced_entries;
  };

  static NodePtr NewDirectory();
  // The node of a path, or null.
  NodePtr Find(const std::string& path) const;
  StatusOr<NodePtr> FindFile(const std::string& path) const;
  StatusOr<NodePtr> FindParent(const std::string& path) const;
  // Counts a call; the fault that is due now.
  Status Enter(const std::string& what);
  Status AppendTo(Node* node, std::string_view bytes);
  static void Forget(Node* node, CrashMode mode, std::mt19937_64* random);
  static uint64_t Bytes(const Node& node);

  NodePtr root_;
  int64_t num_calls_ = 0;
  std::optional<std::pair<int64_t, Status>> fail_;
  std::optional<int64_t> stop_after_;
  std::optional<uint64_t> capacity_;
};

}  // namespace weft
