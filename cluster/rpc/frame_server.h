// Accepts frame connections on a TCP port in an EventLoop.
//
// Errors: Listen gives one clear message for a port in use.
// Thread rule: everything on the loop's thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cluster/base/status.h"
#include "cluster/rpc/endpoint.h"
#include "cluster/rpc/frame_connection.h"

namespace weft {

class FrameServer {
 public:
  // `on_accept` owns each new connection and Starts it.
  static StatusOr<std::unique_ptr<FrameServer>> Listen(
      EventLoop* loop, const Endpoint& endpoint,
      std::function<void(std::unique_ptr<FrameConnection>)> on_accept);
  // Closes the listening socket; connections live on.
  ~FrameServer();
  FrameServer(const FrameServer&) = delete;
  FrameServer& operator=(const FrameServer&) = delete;

  // With the port that was got.
  const Endpoint& endpoint() const;

 private:
  struct Impl;
  explicit FrameServer(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace weft
