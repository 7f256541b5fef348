// How ranks find each other, and whom they refuse.
#include "cluster/comm/tcp_communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <thread>
#include <utility>

#include "cluster/base/logging.h"
#include "cluster/comm/tcp_socket.h"
#include "tests/comm/backends.h"

namespace weft {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Refused connections are logged as warnings, and these tests make many.
class QuietLog : public ::testing::Environment {
 public:
  void SetUp() override {
    if (!std::exchange(initialized_, true))
      InitLogging({.program = "comm_test", .min_severity = LogSeverity::kError});
  }

 private:
  bool initialized_ = false;  // --gtest_repeat
};
const auto* const kQuietLog = ::testing::AddGlobalTestEnvironment(new QuietLog);

std::unique_ptr<Listener> NewListener() {
  auto listener = Listener::Bind({});
  WEFT_CHECK_OK(listener.status());
  return *std::move(listener);
}

// Two ranks that differ in their options; `change` applies to rank 1.
struct Pair {
  Pair() : listeners{NewListener(), NewListener()} {
    options.endpoints = {listeners[0]->endpoint(), listeners[1]->endpoint()};
    options.run_token = "right";
    options.epoch = 4;
    options.generation = 2;
    options.timeout = std::chrono::milliseconds(400);
  }
  std::vector<Status> Connect(const std::function<void(TcpOptions*)>& change) {
    std::vector<Status> statuses(2);
    std::thread other([&] {
      TcpOptions own = options;
      own.rank = 1;
      change(&own);
      statuses[1] = ConnectTcp(own, *listeners[1]).status();
    });
    statuses[0] = ConnectTcp(options, *listeners[0]).status();
    other.join();
    return statuses;
  }
  std::unique_ptr<Listener> listeners[2];
  TcpOptions options;
};

TEST(TcpHandshakeTest, WrongTokenIsRefusedOnBothSides) {
  Pair pair;
  const auto statuses = pair.Connect([](TcpOptions* o) { o->run_token = "wrong"; });
  EXPECT_EQ(statuses[1].code(), StatusCode::kFailedPrecondition) << statuses[1];
  EXPECT_THAT(statuses[1].message(),
              AllOf(HasSubstr("rank 0 refused"), HasSubstr("wrong run token")));
  EXPECT_EQ(statuses[0].code(), StatusCode::kDeadlineExceeded) << statuses[0];
  EXPECT_THAT(statuses[0].message(),
              AllOf(HasSubstr("no connection from rank 1"), HasSubstr("wrong run token")));
}

TEST(TcpHandshakeTest, OtherGenerationIsRefused) {
  Pair pair;
  const auto statuses = pair.Connect([](TcpOptions* o) { o->generation = 1; });
  EXPECT_EQ(statuses[1].code(), StatusCode::kFailedPrecondition) << statuses[1];
  EXPECT_THAT(statuses[1].message(), AllOf(HasSubstr("rank 1 is of (epoch 4, generation 1)"),
                                           HasSubstr("rank 0 of (epoch 4, generation 2)")));
  EXPECT_THAT(statuses[0].message(), HasSubstr("generation 1"));
}

TEST(TcpHandshakeTest, OtherWorldIsRefused) {
  Pair pair;
  const auto statuses = pair.Connect([](TcpOptions* o) {
    o->endpoints.push_back(o->endpoints[1]);
    o->timeout = std::chrono::milliseconds(300);
  });
  EXPECT_FALSE(statuses[1].ok());
  EXPECT_THAT(statuses[0].message(), HasSubstr("rank 1 of 3 does not belong to a world of 2"));
}

TEST(TcpHandshakeTest, SilentStrangersDoNotHoldUpTheRanks) {
  Pair pair;
  pair.options.timeout = std::chrono::seconds(10);
  const TimePoint deadline = Clock::now() + std::chrono::seconds(5);
  auto silent = ConnectToEndpoint(pair.options.endpoints[0], deadline);
  auto rude = ConnectToEndpoint(pair.options.endpoints[0], deadline);
  ASSERT_TRUE(silent.ok() && rude.ok());
  const std::string noise(10'000, 'x');
  ASSERT_TRUE(WriteAll(rude->get(), noise.data(), noise.size(), deadline).ok());
  const auto statuses = pair.Connect([](TcpOptions*) {});
  EXPECT_TRUE(statuses[0].ok()) << statuses[0];
  EXPECT_TRUE(statuses[1].ok()) << statuses[1];
}

TEST(TcpHandshakeTest, NamesTheRankThatDoesNotAnswer) {
  Pair pair;
  // Rank 1's listener is bound but nobody connects from there; rank 1 calls rank 0, which does not answer.
  TcpOptions own = pair.options;
  own.rank = 1;
  EXPECT_THAT(ConnectTcp(own, *pair.listeners[1]).status().message(),
              HasSubstr("the answer of rank 0"));
  EXPECT_THAT(ConnectTcp(pair.options, *pair.listeners[0]).status().message(), HasSubstr("rank 1"));
}

TEST(TcpHandshakeTest, BadOptionsAreNamed) {
  auto listener = NewListener();
  EXPECT_THAT(ConnectTcp({.rank = 0, .endpoints = {"nowhere"}}, *listener).status().message(),
              HasSubstr("run token"));
  EXPECT_THAT(ConnectTcp({.rank = 2, .endpoints = {"a:1", "b:2"}, .run_token = "t"}, *listener)
                  .status()
                  .message(),
              HasSubstr("rank 2 of 2"));
  EXPECT_THAT(ConnectTcp({.rank = 1, .endpoints = {"nowhere", "b:2"}, .run_token = "t"}, *listener)
                  .status()
                  .message(),
              HasSubstr("\"nowhere\" is not of the form host:port"));
}

TEST(ListenerTest, PortInUseIsAMessage) {
  auto first = NewListener();
  const auto address = ParseEndpoint(first->endpoint());
  ASSERT_TRUE(address.ok());
  const auto second = Listener::Bind({.port = std::stoi(address->port)});
  EXPECT_THAT(second.status().message(), AllOf(HasSubstr(address->port), HasSubstr("in use")));
}

TEST(ListenerTest, AdvertisesAnotherHost) {
  const auto listener = Listener::Bind({.host = "0.0.0.0", .advertised_host = "node7"});
  ASSERT_TRUE(listener.ok()) << listener.status();
  EXPECT_THAT((*listener)->endpoint(), ::testing::StartsWith("node7:"));
}

// Nothing of a group outlives it: descriptors of this process are all given back.
TEST(TcpCommunicatorTest, GivesBackAllDescriptors) {
  const auto count = [] {
    const std::filesystem::directory_iterator entries("/proc/self/fd");
    return std::distance(begin(entries), end(entries));
  };
  const auto before = count();
  {
    auto ranks = testing::MakeTcpCommunicators(3, true);
    ASSERT_TRUE(ranks.ok()) << ranks.status();
    EXPECT_GT(count(), before);
  }
  EXPECT_EQ(count(), before);
}

}  // namespace
}  // namespace weft
