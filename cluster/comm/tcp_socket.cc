#include "cluster/comm/tcp_socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>

namespace weft {
namespace {

using AddressList = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

StatusOr<AddressList> Resolve(const HostPort& address, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(address.host.c_str(), address.port.c_str(), &hints, &found);
  if (error != 0) return Unavailable(address.host + ": " + gai_strerror(error));
  return AddressList(found, &freeaddrinfo);
}

int MillisecondsUntil(TimePoint deadline) {
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left + 1, 0, 1'000'000));
}

Status ConnectOnce(const addrinfo& address, TimePoint deadline, UniqueFd* connected) {
  UniqueFd fd(socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return ErrnoStatus("socket", errno);
  if (connect(fd.get(), address.ai_addr, address.ai_addrlen) != 0 && errno != EINPROGRESS) {
    return ErrnoStatus("connect", errno);
  }
  if (!WaitForFd(fd.get(), POLLOUT, deadline)) return DeadlineExceeded("connect: no answer");
  int error = 0;
  socklen_t length = sizeof(error);
  getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  if (error != 0) return ErrnoStatus("connect", error);
  *connected = std::move(fd);
  return OkStatus();
}

}  // namespace

StatusOr<HostPort> ParseEndpoint(const std::string& endpoint) {
  const size_t colon = endpoint.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == endpoint.size()) {
    return InvalidArgument("endpoint \"" + endpoint + "\" is not of the form host:port");
  }
  std::string host = endpoint.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  return HostPort{.host = host, .port = endpoint.substr(colon + 1)};
}

StatusOr<UniqueFd> ListenTcp(const HostPort& address) {
  WEFT_ASSIGN_OR_RETURN(const AddressList addresses, Resolve(address, AI_PASSIVE));
  UniqueFd fd(socket(addresses->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return ErrnoStatus("socket", errno);
  if (bind(fd.get(), addresses->ai_addr, addresses->ai_addrlen) != 0 ||
      listen(fd.get(), SOMAXCONN) != 0) {
    return ErrnoStatus("cannot listen on " + address.host + ":" + address.port, errno);
  }
  return fd;
}

StatusOr<int> LocalPort(int fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return ErrnoStatus("getsockname", errno);
  }
  // The port lies at the same place for both families.
  return static_cast<int>(ntohs(reinterpret_cast<const sockaddr_in*>(&address)->sin_port));
}

StatusOr<UniqueFd> ConnectToEndpoint(const std::string& endpoint, TimePoint deadline) {
  WEFT_ASSIGN_OR_RETURN(const HostPort address, ParseEndpoint(endpoint));
  for (;;) {
    WEFT_ASSIGN_OR_RETURN(const AddressList addresses, Resolve(address, 0));
    UniqueFd fd;
    const Status status = ConnectOnce(*addresses, deadline, &fd);
    if (status.ok()) return fd;
    if (Clock::now() + std::chrono::milliseconds(50) >= deadline)
      return status.WithContext(endpoint);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

Status SetDataPlaneOptions(int fd) {
  const auto set = [fd](int level, int option, int value) {
    return setsockopt(fd, level, option, &value, sizeof(value)) == 0;
  };
  const bool ok = set(IPPROTO_TCP, TCP_NODELAY, 1) && set(SOL_SOCKET, SO_KEEPALIVE, 1) &&
                  set(IPPROTO_TCP, TCP_KEEPIDLE, 5) && set(IPPROTO_TCP, TCP_KEEPINTVL, 3) &&
                  set(IPPROTO_TCP, TCP_KEEPCNT, 3) && set(IPPROTO_TCP, TCP_USER_TIMEOUT, 15'000);
  return ok ? OkStatus() : ErrnoStatus("socket options", errno);
}

bool WaitForFd(int fd, short events, TimePoint deadline) {
  for (;;) {
    pollfd entry{.fd = fd, .events = events, .revents = 0};
    const int ready = poll(&entry, 1, MillisecondsUntil(deadline));
    if (ready > 0) return true;
    if (Clock::now() >= deadline) return false;
  }
}

Status WriteAll(int fd, const void* data, size_t bytes, TimePoint deadline) {
  const auto* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = send(fd, from, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
      from += n;
      bytes -= static_cast<size_t>(n);
    } else if (errno != EAGAIN && errno != EINTR) {
      return ErrnoStatus("send", errno);
    } else if (!WaitForFd(fd, POLLOUT, deadline)) {
      return DeadlineExceeded("send: the peer does not read");
    }
  }
  return OkStatus();
}

Status ReadAll(int fd, void* data, size_t bytes, TimePoint deadline) {
  auto* into = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t n = recv(fd, into, bytes, MSG_DONTWAIT);
    if (n > 0) {
      into += n;
      bytes -= static_cast<size_t>(n);
    } else if (n == 0) {
      return Unavailable("the connection ended");
    } else if (errno != EAGAIN && errno != EINTR) {
      return ErrnoStatus("recv", errno);
    } else if (!WaitForFd(fd, POLLIN, deadline)) {
      return DeadlineExceeded("no answer");
    }
  }
  return OkStatus();
}

}  // namespace weft
