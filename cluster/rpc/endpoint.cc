#include "cluster/rpc/endpoint.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <memory>

namespace weft {
namespace {

using AddressList = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

StatusOr<AddressList> Resolve(const Endpoint& endpoint, int flags) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* list = nullptr;
  const int error =
      ::getaddrinfo(endpoint.host.c_str(), std::to_string(endpoint.port).c_str(), &hints, &list);
  if (error != 0) {
    return InvalidArgument("cannot resolve host '" + endpoint.host + "': " + ::gai_strerror(error));
  }
  return AddressList(list, &::freeaddrinfo);
}

uint16_t BoundPort(int fd) {
  sockaddr_storage address = {};
  socklen_t size = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  if (address.ss_family == AF_INET6) {
    return ntohs(reinterpret_cast<sockaddr_in6*>(&address)->sin6_port);
  }
  return ntohs(reinterpret_cast<sockaddr_in*>(&address)->sin_port);
}

// Connects `fd`, which is non-blocking, or gives the errno.
int ConnectBefore(int fd, const addrinfo& address, TimePoint deadline) {
  if (::connect(fd, address.ai_addr, address.ai_addrlen) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  pollfd waiting = {fd, POLLOUT, 0};
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
  const int ready = ::poll(&waiting, 1, static_cast<int>(std::max<int64_t>(0, left.count())));
  if (ready == 0) return ETIMEDOUT;
  if (ready < 0) return errno;
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

}  // namespace

StatusOr<Endpoint> Endpoint::Parse(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) {
    return InvalidArgument("'" + text + "' is not host:port, e.g. 127.0.0.1:29500");
  }
  Endpoint endpoint;
  endpoint.host = text.substr(0, colon);
  if (endpoint.host.size() > 2 && endpoint.host.front() == '[' && endpoint.host.back() == ']') {
    endpoint.host = endpoint.host.substr(1, endpoint.host.size() - 2);
  }
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data() + colon + 1, end, endpoint.port);
  if (parsed.ec != std::errc() || parsed.ptr != end) {
    return InvalidArgument("'" + text + "': the port must be a number from 0 to 65535");
  }
  return endpoint;
}

StatusOr<ControlListener> ListenControl(const Endpoint& endpoint) {
  WEFT_ASSIGN_OR_RETURN(const AddressList addresses, Resolve(endpoint, AI_PASSIVE));
  const int fd = ::socket(addresses->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return ErrnoStatus("socket", errno);
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(fd, addresses->ai_addr, addresses->ai_addrlen) != 0 || ::listen(fd, 128) != 0) {
    const int error = errno;
    ::close(fd);
    if (error == EADDRINUSE) {
      return AlreadyExists(
          "port " + std::to_string(endpoint.port) + " on " + endpoint.host +
          " is in use: stop the program that listens there, or choose another with "
          "--bind " +
          endpoint.host + ":PORT (port 0: any free one)");
    }
    return ErrnoStatus("listen on " + endpoint.ToString(), error);
  }
  return ControlListener{fd, Endpoint{endpoint.host, BoundPort(fd)}};
}

StatusOr<int> ConnectControl(const Endpoint& endpoint, TimePoint deadline) {
  WEFT_ASSIGN_OR_RETURN(const AddressList addresses, Resolve(endpoint, 0));
  int error = EHOSTUNREACH;
  for (const addrinfo* address = addresses.get(); address != nullptr; address = address->ai_next) {
    const int fd = ::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return ErrnoStatus("socket", errno);
    error = ConnectBefore(fd, *address, deadline);
    if (error == 0) {
      ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) & ~O_NONBLOCK);
      SetControlSocketOptions(fd);
      return fd;
    }
    ::close(fd);
  }
  return ErrnoStatus("connect to " + endpoint.ToString(), error);
}

void SetControlSocketOptions(int fd) {
  const auto set = [fd](int level, int option, int value) {
    ::setsockopt(fd, level, option, &value, sizeof value);
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 5);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 2);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, 10'000);
}

}  // namespace weft
