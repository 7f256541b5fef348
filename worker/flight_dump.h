// The last operations of the data plane as the control plane carries them, for the verdict on a hang.
//
// Thread rule: any thread.
#pragma once

#include "cluster/comm/flight_recorder.h"
#include "cluster/rpc/control.pb.h"

namespace weft {

// The last `last` operations, oldest first; all that have not ended are among them, however old.
control::FlightDump DumpFlightRecorder(const FlightRecorder& recorder, int last);

}  // namespace weft
