// TCP sockets as the data plane uses them: plain blocking calls with a deadline, for the handshake.
//
// Errors: InvalidArgument (an endpoint that is none), Unavailable (refused, reset, unknown host),
// DeadlineExceeded; messages name the endpoint. Thread rule: free functions on descriptors that
// belong to the caller.
#pragma once

#include <cstddef>
#include <string>

#include "cluster/base/clock.h"
#include "cluster/base/status.h"
#include "cluster/comm/unique_fd.h"

namespace weft {

struct HostPort {
  std::string host;
  std::string port;
};
// "10.0.0.7:4000", "node5:4000", "[::1]:4000".
StatusOr<HostPort> ParseEndpoint(const std::string& endpoint);

// A listening socket; port "0" takes any.
StatusOr<UniqueFd> ListenTcp(const HostPort& address);
// The port that a listening socket has.
StatusOr<int> LocalPort(int fd);
// Tries until the deadline: a peer that is about to listen is waited for.
StatusOr<UniqueFd> ConnectToEndpoint(const std::string& endpoint, TimePoint deadline);
// No delay, keep-alive and a limit on unacknowledged data, so that a host that vanished is noticed
// within about 15 s.
Status SetDataPlaneOptions(int fd);

// False at the deadline. `events` as for poll().
bool WaitForFd(int fd, short events, TimePoint deadline);
Status WriteAll(int fd, const void* data, size_t bytes, TimePoint deadline);
// Unavailable if the connection ends before.
Status ReadAll(int fd, void* data, size_t bytes, TimePoint deadline);

}  // namespace weft
