#include "worker/flight_dump.h"

namespace weft {
namespace {

using State = FlightRecorder::State;

control::FlightOperation ToWire(const FlightRecorder::Entry& entry, TimePoint now) {
  control::FlightOperation operation;
  operation.set_axis(entry.axis);
  operation.set_operation(entry.operation);
  operation.set_sequence(entry.sequence);
  operation.set_bytes(entry.bytes);
  switch (entry.state) {
    case State::kEnqueued:
      operation.set_state(control::FlightOperation::ENQUEUED);
      operation.set_seconds(ToSeconds(now - entry.enqueued));
      break;
    case State::kStarted:
      operation.set_state(control::FlightOperation::STARTED);
      operation.set_seconds(ToSeconds(now - entry.started));
      break;
    case State::kDone:
    case State::kFailed: {
      const bool done = entry.state == State::kDone;
      operation.set_state(done ? control::FlightOperation::DONE : control::FlightOperation::FAILED);
      // What has failed may never have started.
      operation.set_seconds(ToSeconds(entry.ended - (done ? entry.started : entry.enqueued)));
      operation.set_ago_s(ToSeconds(now - entry.ended));
    }
  }
  return operation;
}

}  // namespace

control::FlightDump DumpFlightRecorder(const FlightRecorder& recorder, int last) {
  const TimePoint now = Clock::now();
  const std::vector<FlightRecorder::Entry> entries = recorder.Entries();
  control::FlightDump dump;
  for (size_t i = 0; i < entries.size(); ++i) {
    const bool ended = entries[i].state == State::kDone || entries[i].state == State::kFailed;
    const bool recent = entries.size() - i <= static_cast<size_t>(last < 0 ? 0 : last);
    if (recent || !ended) *dump.add_operations() = ToWire(entries[i], now);
  }
  return dump;
}

}  // namespace weft
