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
// Several communicators may be made over one Listener, one after the other, each for a group of its
// own; mesh_communicators.h makes those of a layout. A rank connects to the ranks of the group only.
//
// Memory of a rank, for a communicator of n ranks: a ring to each other rank of min(1 MiB, max(128
// KiB, 8 MiB / n)), so 8 MiB for n from 8 to 64. It is address space; memory is taken when a message
// goes through a ring for the first time, so neighbours that alone talk cost two rings.
//
// Errors: FailedPrecondition (wrong run token, other generation, other group: both ends say so),
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
#include "cluster/comm/listener.h"

namespace weft {

struct TcpOptions {
  int rank = 0;
  // By rank; their number is the size of the communicator.
  std::vector<std::string> endpoints;
  // What messages call the ranks: their numbers in the whole world; empty: the same numbers.
  std::vector<int> world_ranks;
  // "dp.0": tells apart the communicators over one Listener. Equal on all its ranks.
  std::string group;
  // Other groups that this rank connects over the same Listener: who calls for one of them is kept, who calls for any other
  // is refused at once. Empty: who calls for any other group is kept, and goes when it has waited long enough.
  std::vector<std::string> other_groups;
  std::string run_token;
  uint64_t epoch = 0;
  uint64_t generation = 0;
  // For all of the connecting.
  Duration timeout = std::chrono::seconds(60);
  // false: sockets even between ranks of one host.
  bool shared_memory = true;
  // Of one ring between two ranks, a multiple of 4096; 0: chosen by the number of ranks.
  size_t ring_bytes = 0;
  // All ranks of the run on this host, for the choice between spinning and sleeping; 0: those of this communicator.
  int ranks_on_host = 0;
  // Optional; must outlive the communicator.
  FlightRecorder* recorder = nullptr;
};

// All ranks call it at about the same time. The listener may be used again or destroyed afterwards.
StatusOr<std::unique_ptr<Communicator>> ConnectTcp(const TcpOptions& options, Listener& listener);

}  // namespace weft
