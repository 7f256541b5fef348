// What communicator.h promises of ranks that come late, abort or disagree, over every backend whose ranks tell each other.
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "cluster/base/clock.h"
#include "tests/comm/conformance.h"

namespace weft::testing {
namespace {

// Rank 1 never calls: the others name the operation and the rank; the first cause stays, and rank 1 hears of it.
TYPED_TEST(ConformanceTest, DeadlineNamesOperationAndPeer) {
  if (!TypeParam::kTellsPeers) GTEST_SKIP() << "NCCL tells no peers: nccl_double_test.cc";
  const Status status = TypeParam::Run(3, [](Communicator& comm) -> Status {
    std::vector<float> data(30'000);
    WEFT_RETURN_IF_ERROR(comm.Barrier({.name = "start"})->Wait());
    if (comm.rank() == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(600));
      const Status heard = comm.Barrier({.name = "late"})->Wait();
      return Expect(heard.code() == StatusCode::kUnavailable, "rank 1 heard " + heard.ToString());
    }
    // Rank 2 is more patient than rank 0, and is told by it.
    const auto timeout = std::chrono::milliseconds(comm.rank() == 0 ? 200 : 20'000);
    const Status late = comm.AllReduce(data.data(), data.size(), DType::kFloat32, ReduceOp::kSum,
                                       {.name = "grads", .timeout = timeout})
                            ->Wait();
    const StatusCode expected =
        comm.rank() == 0 ? StatusCode::kDeadlineExceeded : StatusCode::kUnavailable;
    WEFT_RETURN_IF_ERROR(Expect(late.code() == expected, late.ToString()));
    WEFT_RETURN_IF_ERROR(
        Expect(late.message().find("all_reduce grads #2") != std::string::npos, late.ToString()));
    // By now rank 2 waits only for rank 1, or also for rank 0, which waits for rank 1.
    if (comm.rank() == 0) {
      WEFT_RETURN_IF_ERROR(
          Expect(late.message().find("waiting for rank") != std::string::npos, late.ToString()));
      WEFT_RETURN_IF_ERROR(Expect(late.message().find("1") != std::string::npos, late.ToString()));
    }
    comm.Abort(Cancelled("later"));
    WEFT_RETURN_IF_ERROR(
        Expect(comm.failure().message() == late.message(), "the first cause is gone"));
    const Status again = comm.Barrier({.name = "again"})->Wait();
    return Expect(again.message() == late.message(),
                  "a later operation returns " + again.ToString());
  });
  EXPECT_TRUE(status.ok()) << status;
}

TYPED_TEST(ConformanceTest, AbortFromAnotherThreadEndsAllRanks) {
  if (!TypeParam::kTellsPeers) GTEST_SKIP() << "NCCL tells no peers: nccl_double_test.cc";
  const Status status = TypeParam::Run(3, [](Communicator& comm) -> Status {
    WEFT_RETURN_IF_ERROR(comm.Barrier({.name = "start"})->Wait());
    if (comm.rank() == 2) {  // calls nothing: it only hears
      const TimePoint give_up = Clock::now() + std::chrono::seconds(10);
      while (comm.failure().ok() && Clock::now() < give_up)
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      return Expect(comm.failure().message().find("operator") != std::string::npos,
                    comm.failure().ToString());
    }
    std::thread aborter([&comm] {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      if (comm.rank() == 0) comm.Abort(Cancelled("the operator said so"));
    });
    const TimePoint begin = Clock::now();
    const Status ended = comm.Barrier({.name = "never"})->Wait();
    aborter.join();
    const StatusCode expected =
        comm.rank() == 0 ? StatusCode::kCancelled : StatusCode::kUnavailable;
    WEFT_RETURN_IF_ERROR(Expect(ended.code() == expected, ended.ToString()));
    WEFT_RETURN_IF_ERROR(Expect(ended.message().find("the operator said so") != std::string::npos,
                                ended.ToString()));
    return Expect(Clock::now() - begin < std::chrono::seconds(5), "took too long");
  });
  EXPECT_TRUE(status.ok()) << status;
}

TYPED_TEST(ConformanceTest, RanksThatCallDifferentOperationsFindOut) {
  if (!TypeParam::kTellsPeers) GTEST_SKIP() << "NCCL tells no peers: nccl_double_test.cc";
  const Status status = TypeParam::Run(2, [](Communicator& comm) -> Status {
    float data[8] = {};
    const Status ended =
        comm.rank() == 0
            ? comm.AllReduce(data, 4, DType::kFloat32, ReduceOp::kSum, {.name = "loss"})->Wait()
            : comm.AllGather(data, data, 4, DType::kFloat32, {.name = "features"})->Wait();
    WEFT_RETURN_IF_ERROR(Expect(!ended.ok(), "no error"));
    WEFT_RETURN_IF_ERROR(
        Expect(ended.message().find("all_reduce loss") != std::string::npos, ended.ToString()));
    return Expect(ended.message().find("all_gather features") != std::string::npos,
                  ended.ToString());
  });
  EXPECT_TRUE(status.ok()) << status;
}

TYPED_TEST(ConformanceTest, SaysWhatItIsWaitingFor) {
  if (!TypeParam::kTellsPeers) GTEST_SKIP() << "NCCL tells no peers: nccl_double_test.cc";
  const Status status = TypeParam::Run(2, [](Communicator& comm) -> Status {
    WEFT_RETURN_IF_ERROR(Expect(comm.CurrentOperation().empty(), comm.CurrentOperation()));
    WorkPtr work;
    if (comm.rank() == 0) {
      work = comm.Barrier({.name = "step"});
      const TimePoint give_up = Clock::now() + std::chrono::seconds(10);
      const std::string expected = "barrier step #1, waiting for rank 1";
      while (comm.CurrentOperation() != expected && Clock::now() < give_up)
        std::this_thread::yield();
      WEFT_RETURN_IF_ERROR(Expect(comm.CurrentOperation() == expected, comm.CurrentOperation()));
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      work = comm.Barrier({.name = "step"});
    }
    return work->Wait();
  });
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace weft::testing
