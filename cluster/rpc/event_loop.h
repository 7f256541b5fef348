// One thread's loop over sockets, timers, file descriptors and signals: what the coordinator and
// the agent live in. Boost.Asio stays behind it (asio_access.h, for .cc files of this folder).
//
//   EventLoop loop;
//   auto tick = loop.Every(std::chrono::milliseconds(200), [&] { ... });
//   loop.Run();   // until Stop()
//
// Thread rule: Post and Stop from any thread, everything else, callbacks included, on the thread
// that calls Run (or before it runs). A Registration may be destroyed at any time on that thread,
// in its own callback too; its callback never runs after that.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "cluster/base/clock.h"

namespace weft {

class EventLoop {
 public:
  // Cancels by its destructor.
  class Registration {
   public:
    virtual ~Registration() = default;
  };

  EventLoop();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Returns after Stop.
  void Run();
  void Stop();
  void Post(std::function<void()> callback);

  [[nodiscard]] std::unique_ptr<Registration> After(Duration delay, std::function<void()> callback);
  [[nodiscard]] std::unique_ptr<Registration> Every(Duration period,
                                                    std::function<void()> callback);
  // Once, when `fd` becomes readable (a pidfd: when the process ends). `fd` stays the caller's; it
  // must be open until the registration is gone.
  [[nodiscard]] std::unique_ptr<Registration> OnReadable(int fd, std::function<void()> callback);
  // Each time that one of `signals` arrives, with its number. One registration a process.
  [[nodiscard]] std::unique_ptr<Registration> OnSignals(const std::vector<int>& signals,
                                                        std::function<void(int)> callback);

  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace weft
