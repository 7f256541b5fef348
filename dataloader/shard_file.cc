#include "dataloader/shard_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <vector>

#include "cluster/base/hash.h"

namespace weft {
namespace {

// Closes what it holds unless released.
class FdHolder {
 public:
  explicit FdHolder(int fd) : fd_(fd) {}
  ~FdHolder() {
    if (fd_ >= 0) ::close(fd_);
  }
  FdHolder(const FdHolder&) = delete;
  FdHolder& operator=(const FdHolder&) = delete;
  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

StatusOr<int> UnlinkedTemporaryFile() {
  std::error_code error;
  std::string path = (std::filesystem::temp_directory_path(error) / "weft-shard-XXXXXX").string();
  const int fd = ::mkostemp(path.data(), O_CLOEXEC);
  if (fd < 0) return ErrnoStatus("create " + path, errno);
  ::unlink(path.c_str());
  return fd;
}

Status WriteAll(int fd, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t n = ::write(fd, data, size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus("write a temporary file", errno);
    data += n;
    size -= static_cast<size_t>(n);
  }
  return OkStatus();
}

// The whole zstd file `path` (already open as `fd`), of one frame or more, as an unlinked temporary file.
StatusOr<int> InflateZstd(const std::string& path, int fd) {
  WEFT_ASSIGN_OR_RETURN(const int out_fd, UnlinkedTemporaryFile());
  FdHolder out(out_fd);
  const std::unique_ptr<ZSTD_DCtx, size_t (*)(ZSTD_DCtx*)> context(ZSTD_createDCtx(),
                                                                   ZSTD_freeDCtx);
  if (!context) return ResourceExhausted(path + ": no memory to inflate it");
  std::vector<char> in_bytes(ZSTD_DStreamInSize());
  std::vector<char> out_bytes(ZSTD_DStreamOutSize());
  size_t left = 0;  // 0: at the end of a frame
  for (uint64_t at = 0;;) {
    const ssize_t n = ::pread(fd, in_bytes.data(), in_bytes.size(), static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus("read shard " + path, errno);
    if (n == 0) break;
    at += static_cast<uint64_t>(n);
    ZSTD_inBuffer in = {in_bytes.data(), static_cast<size_t>(n), 0};
    while (in.pos < in.size) {
      ZSTD_outBuffer piece = {out_bytes.data(), out_bytes.size(), 0};
      left = ZSTD_decompressStream(context.get(), &piece, &in);
      if (ZSTD_isError(left))
        return Corruption(path + ": broken zstd stream: " + ZSTD_getErrorName(left));
      WEFT_RETURN_IF_ERROR(WriteAll(out.get(), out_bytes.data(), piece.pos));
    }
  }
  if (left != 0) return Corruption(path + ": the zstd stream ends too early (was the file cut?)");
  return out.Release();
}

// The whole gzip file `path` (already open as `fd`) as an unlinked temporary file.
StatusOr<int> Inflate(const std::string& path, int fd) {
  WEFT_ASSIGN_OR_RETURN(const int out_fd, UnlinkedTemporaryFile());
  FdHolder out(out_fd);
  const int gz_fd = ::dup(fd);
  if (gz_fd < 0 || ::lseek(gz_fd, 0, SEEK_SET) != 0) return ErrnoStatus("read " + path, errno);
  gzFile gz = ::gzdopen(gz_fd, "rb");
  if (gz == nullptr) {
    ::close(gz_fd);
    return ResourceExhausted(path + ": no memory to inflate it");
  }
  std::vector<char> buffer(size_t{1} << 18);
  Status status;
  while (status.ok()) {
    const int n = ::gzread(gz, buffer.data(), static_cast<unsigned>(buffer.size()));
    if (n == 0) break;
    status = n > 0 ? WriteAll(out.get(), buffer.data(), static_cast<size_t>(n))
                   : Corruption(path + ": broken gzip stream: " + ::gzerror(gz, &errno));
  }
  // gzclose says Z_BUF_ERROR when the stream ended in the middle.
  if (::gzclose(gz) != Z_OK && status.ok()) {
    status = Corruption(path + ": the gzip stream ends too early (was the file cut?)");
  }
  WEFT_RETURN_IF_ERROR(status);
  return out.Release();
}

}  // namespace

StatusOr<std::unique_ptr<ShardFile>> ShardFile::Open(const std::string& path,
                                                     std::shared_ptr<OpenFiles> files) {
  FdHolder fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return ErrnoStatus("open shard " + path, errno);
  struct stat st = {};
  if (::fstat(fd.get(), &st) != 0) return ErrnoStatus("stat shard " + path, errno);
  if (!S_ISREG(st.st_mode)) return InvalidArgument("shard " + path + " is not a regular file");
  std::unique_ptr<ShardFile> file(new ShardFile(path));
  WEFT_ASSIGN_OR_RETURN(file->identity_, IdentityOf(path, fd.get()));
  char magic[4] = {};
  const ssize_t magic_size = ::pread(fd.get(), magic, sizeof magic, 0);
  const std::string_view head(magic, static_cast<size_t>(std::max<ssize_t>(magic_size, 0)));
  const bool zstd = head == "\x28\xB5\x2F\xFD";
  if (zstd || head.starts_with("\x1F\x8B")) {
    WEFT_ASSIGN_OR_RETURN(const int inflated,
                          zstd ? InflateZstd(path, fd.get()) : Inflate(path, fd.get()));
    file->own_ = std::make_shared<const OpenFile>(inflated);
    file->inflated_ = true;
    if (::fstat(inflated, &st) != 0) return ErrnoStatus("stat shard " + path, errno);
  } else if (files != nullptr) {
    file->files_ = std::move(files);
    file->slot_ = std::make_shared<OpenFiles::Slot>(path, file->identity_);
  } else {
    file->own_ = std::make_shared<const OpenFile>(fd.Release());
  }
  file->size_ = static_cast<uint64_t>(st.st_size);
  return file;
}

StatusOr<std::shared_ptr<const OpenFile>> ShardFile::File() const {
  if (own_ != nullptr) return own_;
  return files_->Get(slot_);
}

Status ShardFile::ReadAt(uint64_t offset, size_t size, void* out) const {
  WEFT_ASSIGN_OR_RETURN(const std::shared_ptr<const OpenFile> file, File());
  auto* cursor = static_cast<char*>(out);
  while (size > 0) {
    const ssize_t n = ::pread(file->fd(), cursor, size, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus("read shard " + path_, errno);
    if (n == 0) {
      return Corruption("shard " + path_ + ": ends at byte " + std::to_string(offset) + ", " +
                        std::to_string(size) + " bytes too early");
    }
    cursor += n;
    offset += static_cast<uint64_t>(n);
    size -= static_cast<size_t>(n);
  }
  return OkStatus();
}

Status ShardFile::CheckUnchanged() const {
  const OpenFile file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd() < 0) return ErrnoStatus("open shard " + path_, errno);
  WEFT_ASSIGN_OR_RETURN(const DiskIdentity now, IdentityOf(path_, file.fd()));
  return now == identity_ ? OkStatus() : ShardChanged(path_);
}

void ShardFile::Announce(uint64_t offset, uint64_t size) const {
  const StatusOr<std::shared_ptr<const OpenFile>> file = File();
  if (!file.ok()) return;  // a hint only: reading will say why
  ::posix_fadvise((*file)->fd(), static_cast<off_t>(offset), static_cast<off_t>(size),
                  POSIX_FADV_WILLNEED);
}

StatusOr<uint32_t> ShardFile::Checksum(uint64_t offset, uint64_t size, uint32_t crc) const {
  std::vector<char> buffer(static_cast<size_t>(std::min<uint64_t>(size, uint64_t{1} << 20)));
  while (size > 0) {
    const auto count = static_cast<size_t>(std::min<uint64_t>(size, buffer.size()));
    WEFT_RETURN_IF_ERROR(ReadAt(offset, count, buffer.data()));
    crc = Crc32c(buffer.data(), count, crc);
    offset += count;
    size -= count;
  }
  return crc;
}

}  // namespace weft
