#include "cluster/rpc/event_loop.h"

#include <unistd.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <utility>

#include "cluster/base/logging.h"
#include "cluster/rpc/asio_access.h"

namespace weft {
namespace {

namespace asio = boost::asio;

// What a registration and its pending operation share. Dropping the registration clears `alive`;
// the pending operation holds the state until Asio lets go of it.
class TimerState : public std::enable_shared_from_this<TimerState> {
 public:
  TimerState(asio::io_context& context, Duration period, bool repeat,
             std::function<void()> callback)
      : timer_(context), period_(period), repeat_(repeat), callback_(std::move(callback)) {}

  void Arm() {
    timer_.expires_after(std::chrono::duration_cast<Clock::duration>(period_));
    timer_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
      if (error || !self->alive_) return;
      if (self->repeat_) self->Arm();
      self->callback_();
    });
  }
  void Cancel() {
    alive_ = false;
    timer_.cancel();
  }

 private:
  asio::steady_timer timer_;
  Duration period_;
  bool repeat_;
  std::function<void()> callback_;
  bool alive_ = true;
};

class ReadableState : public std::enable_shared_from_this<ReadableState> {
 public:
  ReadableState(asio::io_context& context, int fd, std::function<void()> callback)
      : descriptor_(context, fd), callback_(std::move(callback)) {}

  void Arm() {
    descriptor_.async_wait(asio::posix::descriptor_base::wait_read,
                           [self = shared_from_this()](const boost::system::error_code& error) {
                             if (!error && self->alive_) self->callback_();
                           });
  }
  void Cancel() {
    alive_ = false;
    descriptor_.release();  // cancels, and leaves the descriptor open for its owner
  }

 private:
  asio::posix::stream_descriptor descriptor_;
  std::function<void()> callback_;
  bool alive_ = true;
};

class SignalState : public std::enable_shared_from_this<SignalState> {
 public:
  SignalState(asio::io_context& context, std::function<void(int)> callback)
      : signals_(context), callback_(std::move(callback)) {}

  void Add(int signal) { signals_.add(signal); }
  void Arm() {
    signals_.async_wait(
        [self = shared_from_this()](const boost::system::error_code& error, int signal) {
          if (error || !self->alive_) return;
          self->Arm();
          self->callback_(signal);
        });
  }
  void Cancel() {
    alive_ = false;
    signals_.cancel();
    signals_.clear();
  }

 private:
  asio::signal_set signals_;
  std::function<void(int)> callback_;
  bool alive_ = true;
};

template <typename State>
class Handle : public EventLoop::Registration {
 public:
  explicit Handle(std::shared_ptr<State> state) : state_(std::move(state)) { state_->Arm(); }
  ~Handle() override { state_->Cancel(); }

 private:
  std::shared_ptr<State> state_;
};

}  // namespace

EventLoop::EventLoop() : impl_(std::make_unique<Impl>()) {}
EventLoop::~EventLoop() = default;

void EventLoop::Run() {
  const auto work = asio::make_work_guard(impl_->context);
  impl_->context.run();
}

void EventLoop::Stop() { impl_->context.stop(); }

void EventLoop::Post(std::function<void()> callback) {
  asio::post(impl_->context, std::move(callback));
}

std::unique_ptr<EventLoop::Registration> EventLoop::After(Duration delay,
                                                          std::function<void()> callback) {
  return std::make_unique<Handle<TimerState>>(
      std::make_shared<TimerState>(impl_->context, delay, /*repeat=*/false, std::move(callback)));
}

std::unique_ptr<EventLoop::Registration> EventLoop::Every(Duration period,
                                                          std::function<void()> callback) {
  return std::make_unique<Handle<TimerState>>(
      std::make_shared<TimerState>(impl_->context, period, /*repeat=*/true, std::move(callback)));
}

std::unique_ptr<EventLoop::Registration> EventLoop::OnReadable(int fd,
                                                               std::function<void()> callback) {
  return std::make_unique<Handle<ReadableState>>(
      std::make_shared<ReadableState>(impl_->context, fd, std::move(callback)));
}

std::unique_ptr<EventLoop::Registration> EventLoop::OnSignals(const std::vector<int>& signals,
                                                              std::function<void(int)> callback) {
  auto state = std::make_shared<SignalState>(impl_->context, std::move(callback));
  for (const int signal : signals) state->Add(signal);
  return std::make_unique<Handle<SignalState>>(std::move(state));
}

}  // namespace weft
