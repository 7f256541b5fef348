// Device memory over tcp: copies are ordered with the caller's stream; on the double of CUDA.
#include "cluster/comm/staged_communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/comm/backends.h"
#include "tests/comm/compute.h"

namespace weft {
namespace {

using testing::Compute;
using testing::kCount;
using testing::StagedThreads;

Status Expect(bool condition, const std::string& what) {
  return condition ? OkStatus() : Internal(what);
}

// Values come from a kernel before and go into one behind, whatever the kind of operation; twice, with buffers used again.
TEST(StagedCommunicatorTest, CopiesAreInTheOrderOfTheStream) {
  const Status status = StagedThreads::Run(2, [](Communicator& comm) -> Status {
    Compute compute(comm.rank());
    const size_t bytes = kCount * sizeof(int64_t);
    for (int round = 0; round < 2; ++round) {
      compute.Kernel(0, 3, std::chrono::milliseconds(2));
      WEFT_RETURN_IF_ERROR(compute.Sum(comm, compute.Op("sum"))->Wait());
      compute.Kernel(2, comm.rank(), std::chrono::milliseconds(2));  // 12, 13
      const WorkPtr message = comm.rank() == 0
                                  ? comm.Send(compute.data.data(), bytes, 1, compute.Op("act"))
                                  : comm.Recv(compute.data.data(), bytes, 0, compute.Op("act"));
      WEFT_RETURN_IF_ERROR(message->Wait());
      compute.Kernel(1, 1);
      WEFT_RETURN_IF_ERROR(comm.Barrier(compute.Op("end"))->Wait());
      compute.Synchronize();
      WEFT_RETURN_IF_ERROR(Expect(compute.data == std::vector<int64_t>(kCount, 13),
                                  std::to_string(compute.data[0])));
    }
    return OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
}

TEST(StagedCommunicatorTest, AStreamThatDoesNotComeToItIsADeadline) {
  const Status status = StagedThreads::Run(2, [](Communicator& comm) -> Status {
    Compute compute(comm.rank());
    if (comm.rank() == 0) compute.Elsewhere(std::chrono::milliseconds(300));
    const Status late =
        compute
            .Sum(comm, compute.Op("grads", comm.rank() == 0 ? std::chrono::milliseconds(100)
                                                            : std::chrono::seconds(20)))
            ->Wait();
    compute.Synchronize();
    if (comm.rank() == 1) return Expect(late.code() == StatusCode::kUnavailable, late.ToString());
    WEFT_RETURN_IF_ERROR(Expect(late.code() == StatusCode::kDeadlineExceeded, late.ToString()));
    WEFT_RETURN_IF_ERROR(Expect(
        late.message() == "grads: the GPU's stream did not come to the operation within 0.1s",
        late.ToString()));
    return Expect(comm.failure().message() == late.message(), "not for good");
  });
  EXPECT_TRUE(status.ok()) << status;
}

// Also a Work that nobody has waited for: its memory stays until the backend has let go of it.
TEST(StagedCommunicatorTest, AWorkThatIsDroppedDoesNoHarm) {
  const Status status = StagedThreads::Run(2, [](Communicator& comm) -> Status {
    Compute compute(comm.rank());
    static_cast<void>(compute.Sum(comm, compute.Op("dropped")));
    compute.Kernel(0, 1);
    WEFT_RETURN_IF_ERROR(compute.Sum(comm, compute.Op("sum"))->Wait());
    compute.Synchronize();
    return Expect(compute.data == std::vector<int64_t>(kCount, 2), std::to_string(compute.data[0]));
  });
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace weft
