// Ranks as processes: shared memory between ranks of one host, sockets between hosts. Made in two
// steps, because a rank must tell its endpoint to the coordinator before it knows its peers:
//
//   auto listener = Listener::Bind({});                         // WorkerHello carries
//   (*listener)->endpoint()
//   ... Start arrives with rank, endpoints, run token, (epoch, generation) ...
//   auto communicator = ConnectTcp({.rank = r, .endpoints = ..., .run_token = ...}, **listener);
//
// A peer that dies ends its connection at once, also kill -9; one whose host vanishes is noticed
// within about 15 s. Nothing with a name is left behind.
//
// Errors: FailedPrecondition (wrong run token, other generation: both ends say so),
// DeadlineExceeded names the ranks that did not come, Unavailable, InvalidArgument. Thread rule: a
// Listener belongs to one thread; the communicator's is communicator.h's.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cluster/base/clock.h"
#include "cluster/base/status.h"
#include "cluster/comm/communicator.h"
#include "cluster/comm/flight_recorder.h"
#include "cluster/comm/unique_fd.h"

namespace weft {

struct ListenerOptions {
  std::string host = "127.0.0.1";
  // 0: any.
  int port = 0;
  // The host that peers use; empty: `host`. Needed where `host` is 0.0.0.0.
  std::string advertised_host;
};

class Listener {
 public:
  static StatusOr<std::unique_ptr<Listener>> Bind(const ListenerOptions& options);

  // "host:port", for the peers.
  const std::string& endpoint() const { return endpoint_; }
  int fd() const { return fd_.get(); }

 private:
  Listener(UniqueFd fd, std::string endpoint)
      : fd_(std::move(fd)), endpoint_(std::move(endpoint)) {}

  UniqueFd fd_;
  std::string endpoint_;
};

struct TcpOptions {
  int rank = 0;
  // By rank; their number is the size of the world.
  std::vector<std::string> endpoints;
  std::string run_token;
  uint64_t epoch = 0;
  uint64_t generation = 0;
  // For all of the connecting.
  Duration timeout = std::chrono::seconds(60);
  // false: sockets even between ranks of one host.
  bool shared_memory = true;
  // Of one ring between two ranks, a multiple of 4096; 0: chosen by the number of ranks.
  size_t ring_bytes = 0;
  // Optional; must outlive the communicator.
  FlightRecorder* recorder = nullptr;
};

// All ranks call it at about the same time. The listener may be used again or destroyed afterwards.
StatusOr<std::unique_ptr<Communicator>> ConnectTcp(const TcpOptions& options, Listener& listener);

}  // namespace weft
