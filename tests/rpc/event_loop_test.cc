#include "cluster/rpc/event_loop.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <string>
#include <thread>

namespace weft {
namespace {

using std::chrono::milliseconds;

TEST(EventLoopTest, TimersRunInOrderAndRepeat) {
  EventLoop loop;
  std::string order;
  const auto b = loop.After(milliseconds(20), [&] { order += 'b'; });
  const auto a = loop.After(milliseconds(5), [&] { order += 'a'; });
  int ticks = 0;
  const auto every = loop.Every(milliseconds(15), [&] {
    if (++ticks == 3) loop.Stop();
  });
  loop.Run();
  EXPECT_EQ(order, "ab");
  EXPECT_EQ(ticks, 3);
}

TEST(EventLoopTest, ADroppedRegistrationNeverRuns) {
  EventLoop loop;
  bool ran = false;
  auto dropped = loop.After(milliseconds(1), [&] { ran = true; });
  dropped.reset();
  const auto end = loop.After(milliseconds(20), [&] { loop.Stop(); });
  loop.Run();
  EXPECT_FALSE(ran);
}

TEST(EventLoopTest, ARegistrationMayBeDroppedInItsOwnCallback) {
  EventLoop loop;
  int ticks = 0;
  std::unique_ptr<EventLoop::Registration> every;
  every = loop.Every(milliseconds(2), [&] {
    ++ticks;
    every.reset();
  });
  const auto end = loop.After(milliseconds(30), [&] { loop.Stop(); });
  loop.Run();
  EXPECT_EQ(ticks, 1);
}

TEST(EventLoopTest, PostWakesTheLoopFromAnotherThread) {
  EventLoop loop;
  std::thread::id ran_on;
  std::thread poster([&] {
    loop.Post([&] {
      ran_on = std::this_thread::get_id();
      loop.Stop();
    });
  });
  loop.Run();
  poster.join();
  EXPECT_EQ(ran_on, std::this_thread::get_id());
}

TEST(EventLoopTest, SeesAReadableDescriptorAndLeavesItOpen) {
  EventLoop loop;
  int fds[2];
  ASSERT_EQ(::pipe(fds), 0);
  {
    const auto watch = loop.OnReadable(fds[0], [&] { loop.Stop(); });
    ASSERT_EQ(::write(fds[1], "x", 1), 1);
    loop.Run();
  }
  char byte = 0;
  EXPECT_EQ(::read(fds[0], &byte, 1), 1);
  ::close(fds[0]);
  ::close(fds[1]);
}

TEST(EventLoopTest, DeliversSignals) {
  EventLoop loop;
  int got = 0;
  const auto signals = loop.OnSignals({SIGUSR1}, [&](int signal) {
    got = signal;
    loop.Stop();
  });
  loop.Post([] { ::raise(SIGUSR1); });
  loop.Run();
  EXPECT_EQ(got, SIGUSR1);
}

}  // namespace
}  // namespace weft
