// Operations of the nccl backend that name a stream: beside the stream's own work, ordered with it by events, looked after by
// the communicator's thread; on the doubles of NCCL and CUDA.
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "cluster/comm/nccl_connect.h"
#include "tests/comm/backends.h"
#include "tests/comm/compute.h"
#include "tests/gpu_double/contract.h"

namespace weft {
namespace {

using testing::Compute;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::kCount;
using testing::NcclThreads;

constexpr auto kShort = std::chrono::milliseconds(300);

Status Expect(bool condition, const std::string& what) {
  return condition ? OkStatus() : Internal(what);
}

// What ranks tell each other beside their communicator.
void WaitFor(const std::atomic<bool>& flag) {
  while (!flag) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

// Rank 1 calls only when rank 0 has done its next kernel: on one stream that would be never.
TEST(NcclStreamTest, CommunicationGoesBesideCompute) {
  std::atomic<bool> computed = false;
  const Status status = NcclThreads::Run(2, [&](Communicator& comm) -> Status {
    Compute compute(comm.rank());
    compute.Kernel(10, 0, std::chrono::milliseconds(5));
    if (comm.rank() == 1) WaitFor(computed);
    const WorkPtr work = compute.Sum(comm, compute.Op("grads"));
    if (comm.rank() == 0) {
      compute.Elsewhere(std::chrono::milliseconds(5));
      compute.Synchronize();
      WEFT_RETURN_IF_ERROR(Expect(!work->Done(), "done without its peer"));
      computed = true;
    }
    WEFT_RETURN_IF_ERROR(work->Wait());
    compute.Kernel(1, 1);
    compute.Synchronize();
    WEFT_RETURN_IF_ERROR(Expect(work->Done(), "not done"));
    return Expect(compute.data == std::vector<int64_t>(kCount, 21), "not the sum");
  });
  EXPECT_TRUE(status.ok()) << status;
}

TEST(NcclStreamTest, WaitHoldsUpTheStreamAndNotTheHost) {
  std::atomic<bool> waited = false;
  const Status status = NcclThreads::Run(2, [&](Communicator& comm) -> Status {
    Compute compute(comm.rank());
    if (comm.rank() == 1) WaitFor(waited);
    compute.Kernel(3, 0, std::chrono::milliseconds(5));
    const WorkPtr sum = compute.Sum(comm, compute.Op("sum"));
    WEFT_RETURN_IF_ERROR(sum->Wait());
    if (comm.rank() == 0) waited = true;
    compute.Kernel(2, 0);
    // Lanes as well: rank 0's numbers once more.
    compute.Kernel(1, comm.rank());
    const size_t bytes = kCount * sizeof(int64_t);
    const WorkPtr message = comm.rank() == 0
                                ? comm.Send(compute.data.data(), bytes, 1, compute.Op("act"))
                                : comm.Recv(compute.data.data(), bytes, 0, compute.Op("act"));
    WEFT_RETURN_IF_ERROR(message->Wait());
    compute.Kernel(1, 5);
    compute.Synchronize();
    return Expect(compute.data == std::vector<int64_t>(kCount, 17),
                  std::to_string(compute.data[0]));
  });
  EXPECT_TRUE(status.ok()) << status;
}

TEST(NcclStreamTest, AForgottenWaitIsABreach) {
  const Status status = NcclThreads::Run(2, [](Communicator& comm) -> Status {
    Compute compute(comm.rank());
    const WorkPtr work = compute.Sum(comm, compute.Op("grads"));
    if (comm.rank() == 0) compute.KernelThatDoesNothing();
    WEFT_RETURN_IF_ERROR(work->Wait());
    compute.Synchronize();
    return OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(testing::TakeBreaches(),
              ElementsAre(AllOf(HasSubstr("a kernel writes bytes that ncclAllReduce"),
                                HasSubstr("wait for its event first"))));
}

// Nobody waits on the host: the communicator's own thread comes to the deadline. The stream goes on, and the same process and
// stream begin a next generation.
TEST(NcclStreamTest, PastTheDeadlineTheStreamGoesOnAndANewCommunicatorWorks) {
  const auto next = MakeNcclUniqueId();
  ASSERT_TRUE(next.ok());
  const Status status = NcclThreads::Run(2, [&](Communicator& comm) -> Status {
    Compute compute(comm.rank());
    if (comm.rank() == 0) {
      const WorkPtr work = compute.Sum(comm, compute.Op("grads", kShort));
      static_cast<void>(work->Wait());  // too early to know
      compute.Kernel(0, 7);
      compute.Synchronize();
      WEFT_RETURN_IF_ERROR(
          Expect(comm.failure().message() == "all_reduce grads #1: not done after 0.3s",
                 comm.failure().ToString()));
      WEFT_RETURN_IF_ERROR(
          Expect(comm.failure().code() == StatusCode::kDeadlineExceeded, "another code"));
      WEFT_RETURN_IF_ERROR(
          Expect(work->Wait().message() == comm.failure().message(), "Wait does not say it"));
      WEFT_RETURN_IF_ERROR(Expect(
          compute.Sum(comm, compute.Op("late"))->Wait().message() == comm.failure().message(),
          "not for good"));
    }
    compute.Kernel(0, 4);
    WEFT_ASSIGN_OR_RETURN(
        const auto again,
        ConnectNccl({.rank = comm.rank(), .size = 2, .unique_id = *next, .device = comm.rank()}));
    WEFT_RETURN_IF_ERROR(compute.Sum(*again, compute.Op("sum"))->Wait());
    compute.Synchronize();
    WEFT_RETURN_IF_ERROR(again->failure());
    return Expect(compute.data == std::vector<int64_t>(kCount, 8), std::to_string(compute.data[0]));
  });
  EXPECT_TRUE(status.ok()) << status;
}

TEST(NcclStreamTest, ComputeBeforeAnOperationDoesNotCountForItsDeadline) {
  const Status status = NcclThreads::Run(2, [](Communicator& comm) -> Status {
    Compute compute(comm.rank());
    compute.Elsewhere(2 * kShort);
    const WorkPtr work = compute.Sum(comm, compute.Op("grads", kShort));
    WEFT_RETURN_IF_ERROR(
        Expect(comm.CurrentOperation() == "all_reduce grads #1 (its stream has not come to it)",
               comm.CurrentOperation()));
    WEFT_RETURN_IF_ERROR(work->Wait());
    compute.Synchronize();
    return comm.failure();
  });
  EXPECT_TRUE(status.ok()) << status;
}

TEST(NcclStreamTest, NcclsOwnErrorIsPolled) {
  const Status status = NcclThreads::Run(2, [](Communicator& comm) -> Status {
    Compute compute(comm.rank());
    const size_t count = comm.rank() == 0 ? kCount : kCount / 2;
    const WorkPtr work = comm.AllReduce(compute.data.data(), count, DType::kInt64, ReduceOp::kSum,
                                        compute.Op("grads"));
    static_cast<void>(work->Wait());  // it may know by now
    compute.Kernel(1, 1);
    compute.Synchronize();
    return Expect(comm.failure().code() == StatusCode::kUnavailable, comm.failure().ToString());
  });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(testing::TakeBreaches(), ElementsAre(HasSubstr("ranks disagree")));
}

// Of the host and of a stream; done and not done.
TEST(NcclStreamTest, AWorkOutlivesItsCommunicator) {
  auto made = testing::MakeNcclCommunicators(2);
  ASSERT_TRUE(made.ok()) << made.status();
  Compute compute(0);
  Compute peer(1);
  const WorkPtr other = peer.Sum(*(*made)[1], peer.Op("done"));
  const WorkPtr done = compute.Sum(*(*made)[0], compute.Op("done"));
  EXPECT_TRUE(done->Wait().ok());
  EXPECT_TRUE(other->Wait().ok());
  compute.Synchronize();
  peer.Synchronize();
  const WorkPtr of_stream = compute.Sum(*(*made)[0], compute.Op("never"));
  const WorkPtr of_host = (*made)[0]->Barrier({.name = "never"});
  (*made)[0] = nullptr;
  for (const WorkPtr* work : {&of_stream, &of_host}) {
    EXPECT_TRUE((*work)->Done());
    EXPECT_EQ((*work)->Wait().code(), StatusCode::kCancelled);
  }
  EXPECT_TRUE(done->Done());
  compute.Kernel(1, 1);
  compute.Synchronize();
}

}  // namespace
}  // namespace weft
