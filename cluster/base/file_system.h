// The file system as the commit code sees it: every call that durability depends on, behind a seam, so that tests can
// lose unsynced data, fill the disk or die between two calls (docs: checkpoint/FORMAT.md).
//
// Errors: ResourceExhausted (disk full), NotFound, AlreadyExists, InvalidArgument (permission), Unavailable (I/O);
// messages name the path. A failed Sync is final for that file: the kernel reports it once and drops the data.
// Thread rule: FileSystem is safe from any thread; a WritableFile belongs to one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/base/status.h"

namespace weft {

class WritableFile {
 public:
  virtual ~WritableFile() = default;
  // Appends all of `bytes`.
  virtual Status Append(std::string_view bytes) = 0;
  // Data and size reach the disk (fdatasync).
  virtual Status Sync() = 0;
  // Cuts the file to its first `size` bytes; the next Append goes there. Durable only after Sync.
  virtual Status Truncate(uint64_t size) = 0;
  virtual Status Close() = 0;
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;

  // Creates a file that must not exist (O_CREAT | O_EXCL).
  virtual StatusOr<std::unique_ptr<WritableFile>> CreateExclusive(const std::string& path) = 0;
  // Opens for append; creates it if absent.
  virtual StatusOr<std::unique_ptr<WritableFile>> OpenAppend(const std::string& path) = 0;
  virtual StatusOr<std::string> ReadFile(const std::string& path) = 0;
  // `size` bytes from `offset` into `out`; Corruption if the file ends before.
  virtual Status ReadRange(const std::string& path, uint64_t offset, size_t size, void* out) = 0;
  virtual StatusOr<uint64_t> FileSize(const std::string& path) = 0;
  virtual bool Exists(const std::string& path) = 0;
  // Names (not paths) in a directory, sorted.
  virtual StatusOr<std::vector<std::string>> ListDir(const std::string& path) = 0;
  // Creates it and its parents; one that is there is fine.
  virtual Status MakeDirs(const std::string& path) = 0;
  virtual Status Rename(const std::string& from, const std::string& to) = 0;
  // Gives `from` the second name `to`; AlreadyExists if `to` is there (the atomic "create if absent").
  virtual Status Link(const std::string& from, const std::string& to) = 0;
  virtual Status Remove(const std::string& path) = 0;
  virtual Status RemoveTree(const std::string& path) = 0;
  // A rename, a link or a new file is durable only after this.
  virtual Status SyncDir(const std::string& path) = 0;
};

// The real one. Lives for the whole process.
FileSystem* PosixFileSystem();

// Writes path.tmp, syncs it, renames it to `path`, syncs the directory: after a crash `path` has the old or the new bytes.
Status WriteFileDurably(FileSystem* fs, const std::string& path, std::string_view bytes);

// "a/b" + "c" -> "a/b/c"; parent of "a/b/c" -> "a/b" ("." for a bare name).
std::string JoinPath(std::string_view dir, std::string_view name);
std::string ParentPath(std::string_view path);

// An exclusive flock on `path` (created if absent), released by the destructor or the process's death.
class FileLock {
 public:
  // AlreadyExists if another process holds it; the message holds what that process wrote with SetOwner.
  static StatusOr<std::unique_ptr<FileLock>> TryAcquire(const std::string& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  // A line for people: "pid 123 on host n5 since ...".
  Status SetOwner(std::string_view text);

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace weft
