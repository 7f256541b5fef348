// "host:port" as people write it, and the blocking parts of sockets that need a name: resolve,
// listen, connect.
//
// Errors: InvalidArgument names what is wrong with the text; Unavailable that nobody listens there.
// Thread rule: pure functions; none keeps state.
#pragma once

#include <cstdint>
#include <string>

#include "cluster/base/clock.h"
#include "cluster/base/status.h"

namespace weft {

struct Endpoint {
  std::string host;
  uint16_t port = 0;
  // "127.0.0.1:0", "node7:29500", "[::1]:80".
  static StatusOr<Endpoint> Parse(const std::string& text);
  std::string ToString() const { return host + ":" + std::to_string(port); }
};

// A listening TCP socket and the port that it got. A port in use is one clear message with the
// remedy.
struct ControlListener {
  int fd = -1;
  Endpoint endpoint;
};
StatusOr<ControlListener> ListenControl(const Endpoint& endpoint);

// A connected TCP socket (blocking, close-on-exec) with keep-alive and TCP_USER_TIMEOUT, so that a
// cut link is seen.
StatusOr<int> ConnectControl(const Endpoint& endpoint, TimePoint deadline);

// No delay, keep-alive after 5 s, unacknowledged data gives up after 10 s.
void SetControlSocketOptions(int fd);

}  // namespace weft
