#include "worker/progress_reporter.h"

#include <utility>

#include "cluster/base/logging.h"

namespace weft {

ProgressReporter::ProgressReporter(WorkerChannel* channel, Duration interval)
    : channel_(channel), interval_(interval), thread_([this] { Loop(); }) {}

ProgressReporter::~ProgressReporter() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.NotifyAll();
  thread_.join();
}

void ProgressReporter::Enter(control::Phase phase, int64_t step) {
  Tick();
  const MutexLock lock(mutex_);
  phase_ = phase;
  step_ = step;
  SendReport();
}

void ProgressReporter::SetOperationSource(std::function<std::string()> source) {
  const MutexLock lock(mutex_);
  operation_ = std::move(source);
}

void ProgressReporter::Loop() {
  const MutexLock lock(mutex_);
  TimePoint next = Clock::now() + interval_;
  while (!stopping_) {
    if (wake_.WaitUntil(mutex_, next)) continue;
    SendReport();
    next = Clock::now() + interval_;
  }
}

void ProgressReporter::SendReport() {
  control::WorkerMessage message;
  control::Progress* progress = message.mutable_progress();
  progress->set_phase(phase_);
  progress->set_step(step_);
  progress->set_counter(counter_.load(std::memory_order_relaxed));
  if (operation_) progress->set_operation(operation_());
  // The channel's on_lost ends the process if the agent is gone; nothing to add here.
  const Status status = channel_->Send(message);
  if (!status.ok()) WEFT_LOG(WARNING) << "progress report: " << status;
}

}  // namespace weft
