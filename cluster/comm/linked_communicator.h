// The communicator over links (link.h): a thread that makes progress (progress_thread.h) and the
// collectives as rounds of messages (collectives.h). tcp_communicator and in_process_communicator
// make the links and hand them over.
#pragma once

#include <memory>
#include <string>

#include "cluster/comm/communicator.h"
#include "cluster/comm/doorbell.h"
#include "cluster/comm/flight_recorder.h"
#include "cluster/comm/members.h"

namespace weft {

struct LinkedCommunicatorParts {
  Members members;
  std::unique_ptr<Sleeper> sleeper;
  // "dp.0", for the recorder.
  std::string group;
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
