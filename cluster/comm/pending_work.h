// The caller's side of an operation that a communicator's own thread executes (operation.h): what it is called in verdicts and
// in the flight recorder, and the wait for its end. The same for every communicator with such a thread.
//
// Errors: a Wait at its deadline asks the communicator to fail, and returns the first cause.
// Thread rule: the caller's thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cluster/base/clock.h"
#include "cluster/comm/communicator.h"
#include "cluster/comm/flight_recorder.h"
#include "cluster/comm/operation.h"

namespace weft {

// "all_reduce grads #5", and for the recorder (may be null) " to rank 3" (`peer`, "" for a collective) and `group` with it.
void DescribeOperation(const std::string& verb, const std::string& peer, size_t bytes,
                       const std::string& group, FlightRecorder* recorder, OpState* state);

// `deadline_passed` fails the communicator, so that its thread finishes the operation within moments; it outlives the work.
using DeadlinePassed = std::function<void(const OpState& state, Duration timeout)>;
WorkPtr MakePendingWork(std::shared_ptr<OpState> state, Duration timeout,
                        DeadlinePassed deadline_passed);

}  // namespace weft
