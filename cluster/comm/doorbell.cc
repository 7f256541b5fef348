#include "cluster/comm/doorbell.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace weft {
namespace {

// A full pipe already holds a wake-up, so EAGAIN is as good as success.
void WriteByte(int fd) {
  const char byte = 1;
  while (write(fd, &byte, 1) < 0 && errno == EINTR) {
  }
}

}  // namespace

StatusOr<std::unique_ptr<Sleeper>> Sleeper::Create(std::shared_ptr<Segment> segment) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return ErrnoStatus("pipe", errno);
  auto sleeper = std::make_unique<Sleeper>();
  sleeper->segment_ = std::move(segment);
  sleeper->read_ = UniqueFd(ends[0]);
  sleeper->write_ = UniqueFd(ends[1]);
  return sleeper;
}

void Sleeper::Drain() {
  char bytes[256];
  while (read(read_.get(), bytes, sizeof(bytes)) > 0) {
  }
}

void Sleeper::Wake() { WriteByte(write_.get()); }

StatusOr<Ringer> Ringer::Open(pid_t pid, int fd, std::shared_ptr<Segment> peer) {
  const std::string path = "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(fd);
  // O_RDWR: a pipe that has a reader, if only ourselves, never raises SIGPIPE when the peer dies.
  UniqueFd pipe(open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!pipe.valid()) return ErrnoStatus(path, errno);
  return Ringer(std::move(peer), std::move(pipe));
}

void Ringer::Ring() {
  std::atomic<uint32_t>* sleeping = peer_->sleeping();
  if (sleeping->load() != 0 && sleeping->exchange(0) != 0) WriteByte(pipe_.get());
}

}  // namespace weft
