// Ranks that die, hang, leave, or are too many for the machine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <thread>

#include "cluster/comm/in_process_communicator.h"
#include "tests/comm/backends.h"

namespace weft {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::ProcessWorld;
using testing::RankProcess;
using testing::RankResult;

constexpr auto kSecond = std::chrono::seconds(1);

// All ranks but `victim` must say Unavailable and name it.
void ExpectSurvivorsNameRank(const std::vector<RankResult>& results, int victim) {
  for (int rank = 0; rank < static_cast<int>(results.size()); ++rank) {
    const RankResult& result = results[static_cast<size_t>(rank)];
    if (rank == victim) {
      EXPECT_EQ(result.signal, SIGKILL);
      continue;
    }
    EXPECT_EQ(result.status.code(), StatusCode::kUnavailable)
        << "rank " << rank << ": " << result.status;
    EXPECT_THAT(result.status.message(), HasSubstr("rank " + std::to_string(victim) + " is lost"));
  }
}

void KillWhileOthersWait(bool shared_memory) {
  ProcessWorld world({.size = 3, .shared_memory = shared_memory});
  TimePoint killed;
  const auto body = [](RankProcess& self) -> StatusOr<std::string> {
    WEFT_RETURN_IF_ERROR(self.comm.Barrier({.name = "start"})->Wait());
    if (self.comm.rank() == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));  // the others wait by now
      self.Note("kill me");
      std::this_thread::sleep_for(std::chrono::minutes(1));
    }
    WEFT_RETURN_IF_ERROR(self.comm.Barrier({.name = "step"})->Wait());
    return std::string();
  };
  const auto results = world.Run(body, [&](ProcessWorld& w, int rank, const std::string&) {
    killed = Clock::now();
    w.Signal(rank, SIGKILL);
  });
  ExpectSurvivorsNameRank(results, 1);
  for (const RankResult& result : results)
    EXPECT_LT(ToSeconds(result.ended - killed), ToSeconds(kSecond));
}

TEST(DeathTest, KillIsSeenWithinASecond) { KillWhileOthersWait(true); }
TEST(DeathTest, KillIsSeenWithinASecondOverSockets) { KillWhileOthersWait(false); }

// In the midst of large transfers, at a moment that nobody chose.
TEST(DeathTest, KillDuringTransfersEndsAllRanks) {
  ProcessWorld world({.size = 3});
  const auto results = world.Run(
      [](RankProcess& self) -> StatusOr<std::string> {
        std::vector<float> data(1 << 20, 1.0f);
        for (int step = 0; step < 100'000; ++step) {
          if (step == 3 && self.comm.rank() == 2) self.Note("running");
          WEFT_RETURN_IF_ERROR(self.comm
                                   .AllReduce(data.data(), data.size(), DType::kFloat32,
                                              ReduceOp::kMax, {.name = "x"})
                                   ->Wait());
        }
        return std::string("never killed");
      },
      [](ProcessWorld& w, int rank, const std::string&) { w.Signal(rank, SIGKILL); });
  ExpectSurvivorsNameRank(results, 2);
}

// It lives, its connection too, but it does nothing: only the deadline sees that.
TEST(DeathTest, StoppedRankRunsIntoTheDeadline) {
  ProcessWorld world({.size = 2});
  const auto results = world.Run(
      [](RankProcess& self) -> StatusOr<std::string> {
        WEFT_RETURN_IF_ERROR(self.comm.Barrier({.name = "start"})->Wait());
        if (self.comm.rank() == 1) {
          self.Note("stop");
          std::this_thread::sleep_for(std::chrono::minutes(1));
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        const Status late =
            self.comm.Barrier({.name = "step", .timeout = std::chrono::milliseconds(200)})->Wait();
        self.Note("done");
        return late;
      },
      [](ProcessWorld& w, int, const std::string& note) {
        w.Signal(1, note == "stop" ? SIGSTOP : SIGKILL);
      });
  EXPECT_EQ(results[0].status.code(), StatusCode::kDeadlineExceeded) << results[0].status;
  EXPECT_THAT(results[0].status.message(),
              AllOf(HasSubstr("barrier step #2"), HasSubstr("waiting for rank 1")));
}

// A rank that ends in order, with the others' operations done, disturbs nobody; one that is still needed is named.
void LeaveEarly(std::vector<std::unique_ptr<Communicator>> ranks) {
  std::vector<int64_t> values = {1, 2, 3};
  std::vector<WorkPtr> works;
  for (size_t r = 0; r < 3; ++r) {
    works.push_back(
        ranks[r]->AllReduce(&values[r], 1, DType::kInt64, ReduceOp::kSum, {.name = "sum"}));
  }
  for (const WorkPtr& work : works) ASSERT_TRUE(work->Wait().ok());
  EXPECT_EQ(values, (std::vector<int64_t>{6, 6, 6}));

  ranks[1].reset();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_TRUE(ranks[0]->failure().ok()) << ranks[0]->failure();
  // The two that are left can still talk, until something needs the third.
  char byte = 'a';
  char got = 0;
  WorkPtr sent = ranks[0]->Send(&byte, 1, 2, {.name = "p"});
  WorkPtr received = ranks[2]->Recv(&got, 1, 0, {.name = "p"});
  EXPECT_TRUE(sent->Wait().ok());
  EXPECT_TRUE(received->Wait().ok());
  EXPECT_EQ(got, 'a');
  const Status needed = ranks[0]->Barrier({.name = "all"})->Wait();
  EXPECT_EQ(needed.code(), StatusCode::kUnavailable);
  EXPECT_THAT(needed.message(), HasSubstr("rank 1 has left"));
}

TEST(LeaveTest, InProcess) {
  auto ranks = MakeInProcessCommunicators(3);
  ASSERT_TRUE(ranks.ok()) << ranks.status();
  LeaveEarly(*std::move(ranks));
}

TEST(LeaveTest, TcpSharedMemory) {
  auto ranks = testing::MakeTcpCommunicators(3, true);
  ASSERT_TRUE(ranks.ok()) << ranks.status();
  LeaveEarly(*std::move(ranks));
}

TEST(LeaveTest, TcpSockets) {
  auto ranks = testing::MakeTcpCommunicators(3, false);
  ASSERT_TRUE(ranks.ok()) << ranks.status();
  LeaveEarly(*std::move(ranks));
}

TEST(LeaveTest, DestroyedWithOperationsPendingEndsThem) {
  auto ranks = MakeInProcessCommunicators(2);
  ASSERT_TRUE(ranks.ok()) << ranks.status();
  WorkPtr pending = (*ranks)[0]->Barrier({.name = "pending"});
  (*ranks)[0].reset();
  EXPECT_EQ(pending->Wait().code(), StatusCode::kCancelled);
  EXPECT_THAT((*ranks)[1]->Barrier({.name = "other"})->Wait().message(), HasSubstr("rank 0"));
}

// With waits that spin this takes minutes on two cores.
TEST(ManyRanksTest, SixteenRanksOnFewCoresFinish) {
  const TimePoint begin = Clock::now();
  const Status status = testing::ThreadWorld(16, [](Communicator& comm) -> Status {
    for (int64_t step = 0; step < 100; ++step) {
      int64_t value = step + comm.rank();
      WEFT_RETURN_IF_ERROR(
          comm.AllReduce(&value, 1, DType::kInt64, ReduceOp::kSum, {.name = "v"})->Wait());
      if (value != 16 * step + 120)
        return Internal("step " + std::to_string(step) + ": " + std::to_string(value));
    }
    return OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_LT(ToSeconds(Clock::now() - begin), 20.0);
}

TEST(ManyRanksTest, EightProcessesOnFewCoresFinish) {
  ProcessWorld world({.size = 8});
  const auto results = world.Run([](RankProcess& self) -> StatusOr<std::string> {
    std::vector<double> data(10'000);
    for (int step = 0; step < 20; ++step) {
      std::fill(data.begin(), data.end(), self.comm.rank());
      WEFT_RETURN_IF_ERROR(
          self.comm
              .AllReduce(data.data(), data.size(), DType::kFloat64, ReduceOp::kSum, {.name = "d"})
              ->Wait());
    }
    return std::to_string(static_cast<int>(data[9'999]));
  });
  EXPECT_TRUE(testing::FirstFailure(results).ok()) << testing::FirstFailure(results);
  for (const RankResult& result : results) EXPECT_EQ(result.value, "28");
}

TEST(ProcessWorldTest, ReportsFailuresOfTheBodyAndSilentExits) {
  ProcessWorld world({.size = 3});
  const auto results = world.Run([](RankProcess& self) -> StatusOr<std::string> {
    if (self.comm.rank() == 0) {
      EXPECT_EQ(1, 2) << "deliberate";
      return std::string("went on");
    }
    if (self.comm.rank() == 1) std::_Exit(3);
    return NotFound("nothing here");
  });
  EXPECT_EQ(results[0].status.code(), StatusCode::kInternal);
  EXPECT_EQ(results[0].value, "went on");
  EXPECT_THAT(results[0].output, HasSubstr("deliberate"));
  EXPECT_THAT(results[1].status.message(), HasSubstr("exited with 3"));
  EXPECT_EQ(results[2].status.code(), StatusCode::kNotFound);
  EXPECT_THAT(testing::FirstFailure(results).message(), HasSubstr("rank 0"));
}

TEST(ThreadWorldTest, TheFirstRankThatFailsIsReportedAndNobodyHangs) {
  const Status status = testing::ThreadWorld(4, [](Communicator& comm) -> Status {
    if (comm.rank() == 2) return Corruption("bad shard");
    return comm.Barrier({.name = "wait"})->Wait();
  });
  EXPECT_EQ(status.ToString(), "CORRUPTION: rank 2: bad shard");
}

}  // namespace
}  // namespace weft
