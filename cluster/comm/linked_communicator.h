// The communicator over links (link.h): queue, thread, collectives, failure. tcp_communicator and
// in_process_communicator make the links and hand them over.
//
// One thread executes the operations in order. It never blocks but in one poll() over its pipe and
// the sockets; after a few hundred looks without progress it sleeps, so more ranks than cores are
// fine.
//
// Algorithms: small all_reduce: everything to everybody, reduced alike on each. Large: each rank
// reduces its chunk in rank order (reduce-scatter by ownership), then all-gather. Broadcast of more
// than two ranks: scatter, then all-gather.
#pragma once

#include <memory>
#include <vector>

#include "cluster/comm/communicator.h"
#include "cluster/comm/doorbell.h"
#include "cluster/comm/flight_recorder.h"
#include "cluster/comm/link.h"

namespace weft {

struct LinkedCommunicatorParts {
  int rank = 0;
  // By rank; null for the own one.
  std::vector<std::unique_ptr<Link>> links;
  std::unique_ptr<Sleeper> sleeper;
  // Optional; must outlive the communicator.
  FlightRecorder* recorder = nullptr;
  // Looks without progress before it sleeps; 0 where ranks of a host are more than its cores.
  int spins = 0;
};

std::unique_ptr<Communicator> MakeLinkedCommunicator(LinkedCommunicatorParts parts);

// What both backends use: the size of a ring between two of `ranks` ranks on a host, and `spins`.
size_t RingBytes(int ranks);
int SpinsFor(int ranks_on_host);

}  // namespace weft
