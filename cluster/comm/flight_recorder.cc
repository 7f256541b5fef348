#include "cluster/comm/flight_recorder.h"

#include <utility>

#include "cluster/base/logging.h"
#include "cluster/base/text.h"

namespace weft {
namespace {

std::string Describe(const FlightRecorder::Entry& entry, TimePoint now) {
  std::string line = (entry.axis.empty() ? "" : entry.axis + " ") + "#" +
                     std::to_string(entry.sequence) + " " + entry.operation + " " +
                     HumanBytes(static_cast<double>(entry.bytes)) + " ";
  const auto since = [](TimePoint from, TimePoint to) {
    return HumanSeconds(ToSeconds(to - from));
  };
  switch (entry.state) {
    case FlightRecorder::State::kEnqueued:
      return line + "enqueued, in the queue for " + since(entry.enqueued, now);
    case FlightRecorder::State::kStarted:
      return line + "started, running for " + since(entry.started, now);
    case FlightRecorder::State::kDone:
      return line + "done after " + since(entry.started, entry.ended) + ", " +
             since(entry.ended, now) + " ago";
    case FlightRecorder::State::kFailed:
      return line + "failed after " + since(entry.enqueued, entry.ended) + ", " +
             since(entry.ended, now) + " ago";
  }
  return line;
}

}  // namespace

FlightRecorder::FlightRecorder(size_t capacity) : ring_(capacity) { WEFT_CHECK_GE(capacity, 1u); }

uint64_t FlightRecorder::Enqueued(std::string operation, uint64_t sequence, uint64_t bytes,
                                  std::string axis) {
  MutexLock lock(mutex_);
  const uint64_t id = next_id_++;
  ring_[id % ring_.size()] = {.id = id,
                              .operation = std::move(operation),
                              .axis = std::move(axis),
                              .sequence = sequence,
                              .bytes = bytes,
                              .enqueued = Clock::now()};
  return id;
}

void FlightRecorder::Started(uint64_t id) {
  MutexLock lock(mutex_);
  Entry* entry = Find(id);
  if (entry == nullptr) return;
  entry->state = State::kStarted;
  entry->started = Clock::now();
}

void FlightRecorder::Ended(uint64_t id, bool ok) {
  MutexLock lock(mutex_);
  ++ended_count_;
  Entry* entry = Find(id);
  if (entry == nullptr) return;
  entry->state = ok ? State::kDone : State::kFailed;
  entry->ended = Clock::now();
}

uint64_t FlightRecorder::ended_count() const {
  MutexLock lock(mutex_);
  return ended_count_;
}

std::vector<FlightRecorder::Entry> FlightRecorder::Entries() const {
  MutexLock lock(mutex_);
  std::vector<Entry> entries;
  const uint64_t first = next_id_ > ring_.size() ? next_id_ - ring_.size() : 1;
  for (uint64_t id = first; id < next_id_; ++id) entries.push_back(ring_[id % ring_.size()]);
  return entries;
}

std::string FlightRecorder::Snapshot() const {
  const TimePoint now = Clock::now();
  std::string text;
  for (const Entry& entry : Entries()) text += Describe(entry, now) + "\n";
  return text;
}

FlightRecorder::Entry* FlightRecorder::Find(uint64_t id) {
  Entry& entry = ring_[id % ring_.size()];
  return entry.id == id ? &entry : nullptr;
}

}  // namespace weft
