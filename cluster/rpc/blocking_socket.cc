#include "cluster/rpc/blocking_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "cluster/rpc/frame_codec.h"

namespace weft {
namespace {

// Waits until `fd` is ready for `events`.
Status AwaitReady(int fd, short events, TimePoint deadline) {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd waiting = {fd, events, 0};
    // In slices, because poll counts in an int.
    const int ready = ::poll(&waiting, 1, static_cast<int>(std::clamp<int64_t>(left, 0, 60'000)));
    if (ready > 0) return OkStatus();
    if (ready < 0 && errno != EINTR) return ErrnoStatus("poll", errno);
    if (left <= 0) return DeadlineExceeded("the other side did not answer in time");
  }
}

Status Gone() { return Unavailable("the other side closed the connection"); }

}  // namespace

BlockingSocket::~BlockingSocket() {
  if (fd_ >= 0) ::close(fd_);
}

BlockingSocket::BlockingSocket(BlockingSocket&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)) {}

Status BlockingSocket::Send(const control::Frame& frame, TimePoint deadline) {
  WEFT_ASSIGN_OR_RETURN(const std::string bytes, EncodeFrame(frame));
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t n =
        ::send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
      sent += static_cast<size_t>(n);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      WEFT_RETURN_IF_ERROR(AwaitReady(fd_, POLLOUT, deadline));
    } else if (errno == EPIPE || errno == ECONNRESET) {
      return Gone();
    } else if (errno != EINTR) {
      return ErrnoStatus("send", errno);
    }
  }
  return OkStatus();
}

StatusOr<control::Frame> BlockingSocket::Receive(TimePoint deadline) {
  char header[kFrameHeaderBytes];
  WEFT_RETURN_IF_ERROR(ReadExactly(header, sizeof header, deadline));
  WEFT_ASSIGN_OR_RETURN(const uint32_t length, DecodeFrameLength(header));
  std::string body(length, '\0');
  WEFT_RETURN_IF_ERROR(ReadExactly(body.data(), body.size(), deadline));
  return DecodeFrameBody(body);
}

void BlockingSocket::ShutDown() { ::shutdown(fd_, SHUT_RDWR); }

Status BlockingSocket::ReadExactly(void* out, size_t size, TimePoint deadline) {
  auto* cursor = static_cast<char*>(out);
  while (size > 0) {
    const ssize_t n = ::recv(fd_, cursor, size, MSG_DONTWAIT);
    if (n > 0) {
      cursor += n;
      size -= static_cast<size_t>(n);
    } else if (n == 0 || errno == ECONNRESET) {
      return Gone();
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      WEFT_RETURN_IF_ERROR(AwaitReady(fd_, POLLIN, deadline));
    } else if (errno != EINTR) {
      return ErrnoStatus("receive", errno);
    }
  }
  return OkStatus();
}

}  // namespace weft
