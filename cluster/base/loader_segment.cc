#include "cluster/base/loader_segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "cluster/base/logging.h"

namespace weft {
namespace {

constexpr size_t kPage = 4096;
constexpr uint64_t kMagic = 0x3152444c54464557;  // "WEFTLDR1"

StatusOr<std::byte*> Map(int fd, size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return ErrnoStatus("mapping the loader's memory", errno);
  return static_cast<std::byte*>(memory);
}

}  // namespace

StatusOr<std::unique_ptr<LoaderSegment>> LoaderSegment::Create(int regions, size_t region_bytes) {
  WEFT_CHECK_GT(regions, 0);
  region_bytes = (region_bytes + kPage - 1) / kPage * kPage;
  const size_t bytes = kPage + static_cast<size_t>(regions) * region_bytes;
  const int fd = ::memfd_create("weft-loader", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return ErrnoStatus("memfd_create", errno);
  std::unique_ptr<LoaderSegment> segment(
      new LoaderSegment(fd, nullptr, static_cast<size_t>(regions), region_bytes));
  if (::ftruncate(fd, static_cast<off_t>(bytes)) != 0)
    return ErrnoStatus("the loader's memory", errno);
  // No process can make another one fault by cutting the file.
  if (::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0)
    return ErrnoStatus("memfd seals", errno);
  WEFT_ASSIGN_OR_RETURN(segment->memory_, Map(fd, bytes));
  LoaderFront& front = segment->front();
  front.magic = kMagic;
  front.regions = static_cast<uint64_t>(regions);
  front.region_bytes = region_bytes;
  return segment;
}

StatusOr<std::unique_ptr<LoaderSegment>> LoaderSegment::Adopt(int fd) {
  const Status wrong = InvalidArgument("descriptor " + std::to_string(fd) +
                                       " is not a loader's memory; only an agent passes it");
  struct stat info = {};
  if (::fstat(fd, &info) != 0 || info.st_size < static_cast<off_t>(kPage)) return wrong;
  const auto bytes = static_cast<size_t>(info.st_size);
  WEFT_ASSIGN_OR_RETURN(std::byte * memory, Map(fd, bytes));
  const auto* front = reinterpret_cast<const LoaderFront*>(memory);
  const uint64_t regions = front->regions;
  const uint64_t region_bytes = front->region_bytes;
  if (front->magic != kMagic || regions == 0 || region_bytes % kPage != 0 ||
      (bytes - kPage) % regions != 0 || (bytes - kPage) / regions != region_bytes) {
    ::munmap(memory, bytes);
    return wrong;
  }
  ::close(fd);
  return std::unique_ptr<LoaderSegment>(new LoaderSegment(-1, memory, regions, region_bytes));
}

LoaderSegment::~LoaderSegment() {
  if (memory_ != nullptr) ::munmap(memory_, kPage + regions_ * region_bytes_);
  if (fd_ >= 0) ::close(fd_);
}

std::span<std::byte> LoaderSegment::Region(int region) const {
  WEFT_CHECK(region >= 0 && region < regions()) << "region " << region << " of " << regions_;
  return {memory_ + kPage + static_cast<size_t>(region) * region_bytes_, region_bytes_};
}

}  // namespace weft
