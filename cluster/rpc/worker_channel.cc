#include "cluster/rpc/worker_channel.h"

#include <fcntl.h>

#include <deque>
#include <thread>
#include <utility>

#include "cluster/base/logging.h"
#include "cluster/base/mutex.h"
#include "cluster/rpc/blocking_socket.h"

namespace weft {

struct WorkerChannel::Impl {
  explicit Impl(WorkerChannelOptions options_in)
      : options(std::move(options_in)), socket(options.fd) {}

  void ReadLoop();
  void Deliver(const control::Frame& frame);
  Status Send(const control::WorkerMessage& message);
  void AnswerDump(const control::DumpRecorder& request);

  const WorkerChannelOptions options;
  BlockingSocket socket;
  std::thread reader;

  Mutex send_mutex;  // held over a whole frame

  Mutex flight_mutex;  // held while the source runs
  std::function<control::FlightDump(int)> flight_source WEFT_GUARDED_BY(flight_mutex);

  mutable Mutex mutex;
  CondVar changed;
  std::deque<control::CoordinatorMessage> inbox WEFT_GUARDED_BY(mutex);
  control::Token token WEFT_GUARDED_BY(mutex);
  bool stopping WEFT_GUARDED_BY(mutex) = false;  // by the destructor
  bool stop_requested WEFT_GUARDED_BY(mutex) = false;
  std::string stop_reason WEFT_GUARDED_BY(mutex);
  Status lost WEFT_GUARDED_BY(mutex);
};

void WorkerChannel::Impl::ReadLoop() {
  while (true) {
    auto frame = socket.Receive(Clock::now() + std::chrono::hours(24 * 365));
    if (frame.ok()) {
      Deliver(*frame);
      continue;
    }
    const Status cause = frame.status().WithContext("lost the agent");
    {
      MutexLock lock(mutex);
      if (stopping) return;
      lost = cause;
      changed.NotifyAll();
    }
    options.on_lost(cause);
    return;
  }
}

void WorkerChannel::Impl::Deliver(const control::Frame& frame) {
  if (!frame.has_to_worker()) {
    WEFT_LOG(WARNING) << "the agent sent a frame that is not for a worker; dropped";
    return;
  }
  const control::CoordinatorMessage& message = frame.to_worker().message();
  if (message.has_dump_recorder()) return AnswerDump(message.dump_recorder());
  MutexLock lock(mutex);
  if (message.has_stop()) {
    stop_requested = true;
    stop_reason = message.stop().reason();
    return;
  }
  if (message.has_start()) token = frame.token();
  inbox.push_back(message);
  changed.NotifyAll();
}

Status WorkerChannel::Impl::Send(const control::WorkerMessage& message) {
  control::Frame frame;
  {
    MutexLock lock(mutex);
    if (!lost.ok()) return lost;
    *frame.mutable_token() = token;
  }
  frame.mutable_from_worker()->set_rank(options.rank);
  *frame.mutable_from_worker()->mutable_message() = message;
  MutexLock lock(send_mutex);
  return socket.Send(frame, Clock::now() + options.send_timeout).WithContext("send to the agent");
}

void WorkerChannel::Impl::AnswerDump(const control::DumpRecorder& request) {
  control::WorkerMessage message;
  message.mutable_flight_dump();  // also without a source: nobody waits for it then
  {
    MutexLock lock(flight_mutex);
    if (flight_source) *message.mutable_flight_dump() = flight_source(request.last());
  }
  const Status sent = Send(message);
  if (!sent.ok()) WEFT_LOG(WARNING) << "the last operations: " << sent;
}

WorkerChannel::WorkerChannel(WorkerChannelOptions options)
    : impl_(std::make_unique<Impl>(std::move(options))) {
  WEFT_CHECK_GE(impl_->options.fd, 0);
  WEFT_CHECK(impl_->options.on_lost != nullptr);
  ::fcntl(impl_->options.fd, F_SETFD,
          FD_CLOEXEC);  // a child of the worker must not keep the line open
  impl_->reader = std::thread([impl = impl_.get()] { impl->ReadLoop(); });
}

WorkerChannel::~WorkerChannel() {
  {
    MutexLock lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->socket.ShutDown();
  impl_->reader.join();
}

Status WorkerChannel::Send(const control::WorkerMessage& message) { return impl_->Send(message); }

void WorkerChannel::SetFlightSource(std::function<control::FlightDump(int last)> source) {
  MutexLock lock(impl_->flight_mutex);
  impl_->flight_source = std::move(source);
}

StatusOr<control::CoordinatorMessage> WorkerChannel::Receive(TimePoint deadline) {
  MutexLock lock(impl_->mutex);
  while (impl_->inbox.empty()) {
    if (!impl_->lost.ok()) return impl_->lost;
    if (!impl_->changed.WaitUntil(impl_->mutex, deadline) && impl_->inbox.empty()) {
      return DeadlineExceeded("no message from the coordinator in time");
    }
  }
  control::CoordinatorMessage message = std::move(impl_->inbox.front());
  impl_->inbox.pop_front();
  return message;
}

bool WorkerChannel::stop_requested() const {
  MutexLock lock(impl_->mutex);
  return impl_->stop_requested;
}

std::string WorkerChannel::stop_reason() const {
  MutexLock lock(impl_->mutex);
  return impl_->stop_reason;
}

control::Token WorkerChannel::token() const {
  MutexLock lock(impl_->mutex);
  return impl_->token;
}

}  // namespace weft
