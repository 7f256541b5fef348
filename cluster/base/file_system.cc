#include "cluster/base/file_system.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

namespace weft {
namespace {

class PosixWritableFile : public WritableFile {
 public:
  PosixWritableFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  ~PosixWritableFile() override {
    if (fd_ >= 0) ::close(fd_);
  }

  Status Append(std::string_view bytes) override {
    while (!bytes.empty()) {
      const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoStatus("write " + path_, errno);
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return OkStatus();
  }

  Status Sync() override {
    return ::fdatasync(fd_) == 0 ? OkStatus() : ErrnoStatus("fsync " + path_, errno);
  }

  Status Truncate(uint64_t size) override {
    const auto end = static_cast<off_t>(size);
    if (::ftruncate(fd_, end) != 0 || ::lseek(fd_, end, SEEK_SET) < 0) {
      return ErrnoStatus("truncate " + path_, errno);
    }
    return OkStatus();
  }

  Status Close() override {
    const int fd = std::exchange(fd_, -1);
    return ::close(fd) == 0 ? OkStatus() : ErrnoStatus("close " + path_, errno);
  }

 private:
  std::string path_;
  int fd_;
};

class RealFileSystem : public FileSystem {
 public:
  StatusOr<std::unique_ptr<WritableFile>> CreateExclusive(const std::string& path) override {
    return Open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC);
  }
  StatusOr<std::unique_ptr<WritableFile>> OpenAppend(const std::string& path) override {
    return Open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC);
  }

  StatusOr<std::string> ReadFile(const std::string& path) override {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return ErrnoStatus("open " + path, errno);
    StatusOr<std::string> bytes = ReadToEnd(path, fd);
    ::close(fd);
    return bytes;
  }

  Status ReadRange(const std::string& path, uint64_t offset, size_t size, void* out) override {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return ErrnoStatus("open " + path, errno);
    auto* cursor = static_cast<char*>(out);
    Status status;
    while (size > 0 && status.ok()) {
      const ssize_t n = ::pread(fd, cursor, size, static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) status = ErrnoStatus("read " + path, errno);
      if (n == 0) {
        status = Corruption(path + ": ends at byte " + std::to_string(offset) + ", " +
                            std::to_string(size) + " bytes before its contents should");
      }
      if (n > 0) {
        cursor += n;
        offset += static_cast<uint64_t>(n);
        size -= static_cast<size_t>(n);
      }
    }
    ::close(fd);
    return status;
  }

  StatusOr<uint64_t> FileSize(const std::string& path) override {
    struct stat st = {};
    if (::stat(path.c_str(), &st) != 0) return ErrnoStatus("stat " + path, errno);
    return static_cast<uint64_t>(st.st_size);
  }

  bool Exists(const std::string& path) override { return ::access(path.c_str(), F_OK) == 0; }

  StatusOr<std::vector<std::string>> ListDir(const std::string& path) override {
    DIR* dir = ::opendir(path.c_str());
    if (dir == nullptr) return ErrnoStatus("list " + path, errno);
    std::vector<std::string> names;
    while (const dirent* entry = ::readdir(dir)) {
      std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(std::move(name));
    }
    ::closedir(dir);
    std::sort(names.begin(), names.end());
    return names;
  }

  Status MakeDirs(const std::string& path) override {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    return error ? ErrnoStatus("mkdir " + path, error.value()) : OkStatus();
  }
  Status Rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) == 0) return OkStatus();
    return ErrnoStatus("rename " + from + " to " + to, errno);
  }
  Status Link(const std::string& from, const std::string& to) override {
    if (::link(from.c_str(), to.c_str()) == 0) return OkStatus();
    return ErrnoStatus("link " + to, errno);
  }
  Status Remove(const std::string& path) override {
    return ::unlink(path.c_str()) == 0 ? OkStatus() : ErrnoStatus("remove " + path, errno);
  }
  Status RemoveTree(const std::string& path) override {
    std::error_code error;
    std::filesystem::remove_all(path, error);
    return error ? ErrnoStatus("remove " + path, error.value()) : OkStatus();
  }
  Status SyncDir(const std::string& path) override {
    const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return ErrnoStatus("open " + path, errno);
    const Status status = ::fsync(fd) == 0 ? OkStatus() : ErrnoStatus("fsync " + path, errno);
    ::close(fd);
    return status;
  }

 private:
  // Until the end, not by size: a pipe or a file of /proc has none.
  static StatusOr<std::string> ReadToEnd(const std::string& path, int fd) {
    struct stat st = {};
    if (::fstat(fd, &st) != 0) return ErrnoStatus("stat " + path, errno);
    std::string bytes(static_cast<size_t>(st.st_size) + 1, '\0');
    size_t used = 0;
    while (true) {
      const ssize_t n = ::read(fd, bytes.data() + used, bytes.size() - used);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoStatus("read " + path, errno);
      if (n == 0) break;
      used += static_cast<size_t>(n);
      if (used == bytes.size()) bytes.resize(2 * used + 4096);
    }
    bytes.resize(used);
    return bytes;
  }

  static StatusOr<std::unique_ptr<WritableFile>> Open(const std::string& path, int flags) {
    const int fd = ::open(path.c_str(), flags, 0644);
    if (fd < 0) return ErrnoStatus("create " + path, errno);
    return std::unique_ptr<WritableFile>(std::make_unique<PosixWritableFile>(path, fd));
  }
};

}  // namespace

FileSystem* PosixFileSystem() {
  static auto* fs = new RealFileSystem;
  return fs;
}

namespace {

Status WriteAndSync(FileSystem* fs, const std::string& path, std::string_view bytes) {
  WEFT_ASSIGN_OR_RETURN(auto file, fs->CreateExclusive(path));
  WEFT_RETURN_IF_ERROR(file->Append(bytes));
  WEFT_RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

}  // namespace

Status WriteFileDurably(FileSystem* fs, const std::string& path, std::string_view bytes) {
  const std::string temporary = path + ".tmp";
  if (fs->Exists(temporary)) WEFT_RETURN_IF_ERROR(fs->Remove(temporary));
  Status status = WriteAndSync(fs, temporary, bytes);
  if (status.ok()) status = fs->Rename(temporary, path);
  if (!status.ok()) {
    // Half a file may fill the last of the disk. The first error is the one to tell.
    if (fs->Exists(temporary)) (void)fs->Remove(temporary);
    return status;
  }
  return fs->SyncDir(ParentPath(path));
}

std::string JoinPath(std::string_view dir, std::string_view name) {
  std::string path(dir);
  if (!path.empty() && path.back() != '/') path += '/';
  return path.append(name);
}

std::string ParentPath(std::string_view path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string_view::npos) return ".";
  return slash == 0 ? "/" : std::string(path.substr(0, slash));
}

StatusOr<std::unique_ptr<FileLock>> FileLock::TryAcquire(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return ErrnoStatus("open " + path, errno);
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return std::unique_ptr<FileLock>(new FileLock(fd));
  const int error = errno;
  char owner[256] = {};
  const ssize_t n = ::pread(fd, owner, sizeof owner - 1, 0);
  ::close(fd);
  if (error != EWOULDBLOCK) return ErrnoStatus("lock " + path, error);
  return AlreadyExists(path + " is held by " + (n > 0 ? std::string(owner) : "another process"));
}

FileLock::~FileLock() { ::close(fd_); }

Status FileLock::SetOwner(std::string_view text) {
  if (::ftruncate(fd_, 0) != 0 ||
      ::pwrite(fd_, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    return ErrnoStatus("write lock file", errno);
  }
  return OkStatus();
}

}  // namespace weft
