#include "cluster/comm/segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>

#include "cluster/base/logging.h"

namespace weft {
namespace {

constexpr size_t kPage = 4096;

struct Header {
  uint64_t nonce;
  alignas(64) std::atomic<uint32_t> sleeping;
};

// Header, positions of all rings, rings.
size_t RingsOffset(int ranks) {
  const size_t positions = sizeof(RingPositions) * static_cast<size_t>(ranks);
  return kPage + (positions + kPage - 1) / kPage * kPage;
}

size_t TotalBytes(int ranks, size_t ring_bytes) {
  return RingsOffset(ranks) + ring_bytes * static_cast<size_t>(ranks);
}

}  // namespace

StatusOr<std::shared_ptr<Segment>> Segment::Create(int ranks, size_t ring_bytes) {
  WEFT_CHECK_EQ(ring_bytes % kPage, 0u);
  UniqueFd fd(memfd_create("weft-comm", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return ErrnoStatus("memfd_create", errno);
  if (ftruncate(fd.get(), static_cast<off_t>(TotalBytes(ranks, ring_bytes))) != 0) {
    return ErrnoStatus("shared memory of a rank", errno);
  }
  // A peer cannot make this process fault by cutting the file.
  if (fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0)
    return ErrnoStatus("memfd seals", errno);
  WEFT_ASSIGN_OR_RETURN(std::shared_ptr<Segment> segment, Map(std::move(fd), ranks, ring_bytes));
  auto* header = reinterpret_cast<Header*>(segment->memory_);
  if (getrandom(&header->nonce, sizeof(header->nonce), 0) != sizeof(header->nonce)) {
    return ErrnoStatus("getrandom", errno);
  }
  return segment;
}

StatusOr<std::shared_ptr<Segment>> Segment::Open(pid_t pid, int fd, uint64_t nonce, int ranks,
                                                 size_t ring_bytes) {
  const std::string path = "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(fd);
  UniqueFd opened(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!opened.valid()) return ErrnoStatus(path, errno);
  struct stat info;
  if (fstat(opened.get(), &info) != 0) return ErrnoStatus(path, errno);
  if (info.st_size != static_cast<off_t>(TotalBytes(ranks, ring_bytes))) {
    return NotFound(path + " is not the peer's segment");
  }
  WEFT_ASSIGN_OR_RETURN(std::shared_ptr<Segment> segment,
                        Map(std::move(opened), ranks, ring_bytes));
  if (segment->nonce() != nonce) return NotFound(path + " is another process's segment");
  segment->fd_ = UniqueFd();
  return segment;
}

StatusOr<std::shared_ptr<Segment>> Segment::Map(UniqueFd fd, int ranks, size_t ring_bytes) {
  void* memory =
      mmap(nullptr, TotalBytes(ranks, ring_bytes), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (memory == MAP_FAILED) return ErrnoStatus("mapping a rank's shared memory", errno);
  return std::shared_ptr<Segment>(
      new Segment(std::move(fd), static_cast<std::byte*>(memory), ranks, ring_bytes));
}

Segment::Segment(UniqueFd fd, std::byte* memory, int ranks, size_t ring_bytes)
    : fd_(std::move(fd)), memory_(memory), ranks_(ranks), ring_bytes_(ring_bytes) {}

Segment::~Segment() { munmap(memory_, TotalBytes(ranks_, ring_bytes_)); }

uint64_t Segment::nonce() const { return reinterpret_cast<const Header*>(memory_)->nonce; }

std::atomic<uint32_t>* Segment::sleeping() const {
  return &reinterpret_cast<Header*>(memory_)->sleeping;
}

Ring Segment::RingTo(int to) const {
  WEFT_CHECK(to >= 0 && to < ranks_) << "rank " << to << " of " << ranks_;
  auto* positions = reinterpret_cast<RingPositions*>(memory_ + kPage) + to;
  return Ring(positions, memory_ + RingsOffset(ranks_) + ring_bytes_ * static_cast<size_t>(to),
              ring_bytes_);
}

}  // namespace weft
