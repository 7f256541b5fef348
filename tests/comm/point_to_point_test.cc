// Sends and receives: lanes that do not hold each other up, and their order beside collectives.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <thread>

#include "cluster/comm/communicator.h"
#include "tests/comm/backends.h"

namespace weft {
namespace {

using ::testing::HasSubstr;
using testing::ProcessWorld;
using testing::RankProcess;

// None, odd, about a ring, and beyond every ring.
constexpr size_t kSizes[] = {0, 1, 4097, 70'001, 1'300'000};

Status Expect(bool condition, const std::string& what) {
  return condition ? OkStatus() : Internal(what);
}

// What the k-th message from one rank to another holds.
std::vector<uint8_t> Content(int from, int to, int k) {
  std::vector<uint8_t> bytes(kSizes[static_cast<size_t>(from * 3 + to + k) % std::size(kSizes)]);
  const auto first = static_cast<uint8_t>(from * 64 + to * 8 + k);
  std::iota(bytes.begin(), bytes.end(), first);
  return bytes;
}

// The messages of one rank in flight: their buffers, their Works, and what should arrive.
class InFlight {
 public:
  explicit InFlight(Communicator* comm)
      : comm_(comm),
        sent_(static_cast<size_t>(comm->size()), 0),
        received_(static_cast<size_t>(comm->size()), 0) {}

  void Send(int peer) {
    Transfer& t = Add(Content(comm_->rank(), peer, sent_[static_cast<size_t>(peer)]++));
    t.buffer = t.expected;
    t.work = comm_->Send(t.buffer.data(), t.buffer.size(), peer, {.name = "act"});
  }
  void Recv(int peer) {
    Transfer& t = Add(Content(peer, comm_->rank(), received_[static_cast<size_t>(peer)]++));
    t.buffer.resize(t.expected.size());
    t.work = comm_->Recv(t.buffer.data(), t.buffer.size(), peer, {.name = "act"});
  }
  // The last call first.
  Status WaitForAll() {
    for (auto t = transfers_.rbegin(); t != transfers_.rend(); ++t)
      WEFT_RETURN_IF_ERROR((*t)->work->Wait());
    for (const auto& t : transfers_)
      WEFT_RETURN_IF_ERROR(Expect(t->buffer == t->expected, "another message arrived"));
    transfers_.clear();
    return OkStatus();
  }
  bool AllDone() const {
    return std::all_of(transfers_.begin(), transfers_.end(),
                       [](const auto& t) { return t->work->Done(); });
  }

 private:
  struct Transfer {
    std::vector<uint8_t> expected;
    std::vector<uint8_t> buffer;
    WorkPtr work;
  };
  Transfer& Add(std::vector<uint8_t> expected) {
    transfers_.push_back(std::make_unique<Transfer>());
    transfers_.back()->expected = std::move(expected);
    return *transfers_.back();
  }

  Communicator* const comm_;
  std::vector<int> sent_;
  std::vector<int> received_;
  std::vector<std::unique_ptr<Transfer>> transfers_;
};

// All receives first, from both neighbours, then all sends.
Status RingBothWays(Communicator& comm) {
  const int next = (comm.rank() + 1) % comm.size();
  const int previous = (comm.rank() + comm.size() - 1) % comm.size();
  InFlight in_flight(&comm);
  for (int k = 0; k < 4; ++k) {
    in_flight.Recv(previous);
    in_flight.Recv(next);
  }
  for (int k = 0; k < 4; ++k) {
    in_flight.Send(next);
    in_flight.Send(previous);
  }
  return in_flight.WaitForAll();
}

// Every rank with every other, in an order of its own, now and then a collective.
Status AnyOrderWithCollectives(Communicator& comm) {
  std::mt19937 random(static_cast<uint32_t>(comm.rank()));
  InFlight in_flight(&comm);
  std::vector<int64_t> sums(5, 0);
  std::vector<WorkPtr> works;
  for (size_t round = 0; round < sums.size(); ++round) {
    std::vector<int> calls;  // peer, or peer + size for a receive
    for (int i = 0; i < 2 * comm.size(); ++i) {
      if (i % comm.size() != comm.rank()) calls.insert(calls.end(), 2, i);
    }
    std::shuffle(calls.begin(), calls.end(), random);
    for (const int call : calls) {
      if (call < comm.size()) {
        in_flight.Send(call);
      } else {
        in_flight.Recv(call - comm.size());
      }
    }
    sums[round] = comm.rank() + static_cast<int64_t>(round);
    works.push_back(
        comm.AllReduce(&sums[round], 1, DType::kInt64, ReduceOp::kSum, {.name = "sum"}));
    if (round % 2 == 0) works.push_back(comm.Barrier({.name = "b"}));
  }
  // A collective is done only after all messages before it.
  WEFT_RETURN_IF_ERROR(works.back()->Wait());
  WEFT_RETURN_IF_ERROR(Expect(in_flight.AllDone(), "a message before the barrier is not done"));
  WEFT_RETURN_IF_ERROR(in_flight.WaitForAll());
  for (size_t round = 0; round < sums.size(); ++round) {
    const int64_t n = comm.size();
    WEFT_RETURN_IF_ERROR(
        Expect(sums[round] == n * (n - 1) / 2 + n * static_cast<int64_t>(round), "sum"));
  }
  return OkStatus();
}

template <typename Backend>
class PointToPointTest : public ::testing::Test {};
TYPED_TEST_SUITE(PointToPointTest, testing::AllBackends, testing::BackendNames);

TYPED_TEST(PointToPointTest, RingsWithManyInFlight) {
  const Status status = TypeParam::Run(TypeParam::kMostRanks, RingBothWays);
  EXPECT_TRUE(status.ok()) << status;
}

TYPED_TEST(PointToPointTest, AnyOrderBesideCollectives) {
  const Status status = TypeParam::Run(4, AnyOrderWithCollectives);
  EXPECT_TRUE(status.ok()) << status;
}

// Rank 1 sends to rank 0 only after it has heard, by way of rank 2, of a message that rank 0 sent after its receive.
TYPED_TEST(PointToPointTest, ALateReceiveHoldsUpNoOtherLane) {
  const Status status = TypeParam::Run(3, [](Communicator& comm) -> Status {
    std::vector<uint8_t> large(3'000'000, static_cast<uint8_t>(comm.rank()));
    const OpOptions options{.name = "relay", .timeout = std::chrono::seconds(10)};
    const auto send = [&](int to) { return comm.Send(large.data(), large.size(), to, options); };
    const auto receive = [&](int from) {
      return comm.Recv(large.data(), large.size(), from, options);
    };
    if (comm.rank() != 0) {
      WEFT_RETURN_IF_ERROR(receive(comm.rank() == 2 ? 0 : 2)->Wait());
      return send(comm.rank() == 2 ? 1 : 0)->Wait();
    }
    std::vector<uint8_t> in(large.size(), 9);
    WorkPtr received = comm.Recv(in.data(), in.size(), 1, options);
    WEFT_RETURN_IF_ERROR(send(2)->Wait());
    WEFT_RETURN_IF_ERROR(received->Wait());
    return Expect(in == large, "rank 0's bytes did not come back");
  });
  EXPECT_TRUE(status.ok()) << status;
}

TYPED_TEST(PointToPointTest, DeadlineNamesTheMessageAndWhatIsBeforeIt) {
  if (!TypeParam::kTellsPeers) GTEST_SKIP() << "NCCL tells no peers: nccl_double_test.cc";
  const Status status = TypeParam::Run(2, [](Communicator& comm) -> Status {
    char byte = 0;
    if (comm.rank() == 1) {  // sends nothing, and hears why
      const TimePoint give_up = Clock::now() + std::chrono::seconds(10);
      while (comm.failure().ok() && Clock::now() < give_up)
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      return Expect(comm.failure().message().find("recv second #2") != std::string::npos,
                    comm.failure().ToString());
    }
    WorkPtr first = comm.Recv(&byte, 1, 1, {.name = "first"});
    const Status late =
        comm.Recv(&byte, 1, 1, {.name = "second", .timeout = std::chrono::milliseconds(100)})
            ->Wait();
    WEFT_RETURN_IF_ERROR(Expect(late.code() == StatusCode::kDeadlineExceeded, late.ToString()));
    WEFT_RETURN_IF_ERROR(Expect(
        late.message() == "recv second #2: not done after 0.1s; still under way before it: recv "
                          "first #1, waiting for rank 1",
        late.ToString()));
    return Expect(first->Wait().message() == late.message(), first->Wait().ToString());
  });
  EXPECT_TRUE(status.ok()) << status;
}

TEST(PointToPointRingTest, AllWorldsOfThreads) {
  for (int size = 2; size <= 8; ++size) {
    const Status status = testing::ThreadWorld(size, RingBothWays);
    EXPECT_TRUE(status.ok()) << size << " ranks: " << status;
  }
}

TEST(PointToPointDeathTest, KillEndsAllLanes) {
  ProcessWorld world({.size = 3});
  const auto results = world.Run(
      [](RankProcess& self) -> StatusOr<std::string> {
        for (int step = 0; step < 100'000; ++step) {
          if (step == 3 && self.comm.rank() == 2) self.Note("running");
          WEFT_RETURN_IF_ERROR(RingBothWays(self.comm));
        }
        return std::string("never killed");
      },
      [](ProcessWorld& w, int rank, const std::string&) { w.Signal(rank, SIGKILL); });
  for (int rank = 0; rank < 2; ++rank) {
    const Status& status = results[static_cast<size_t>(rank)].status;
    EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status;
    EXPECT_THAT(status.message(), HasSubstr("rank 2 is lost"));
  }
}

}  // namespace
}  // namespace weft
