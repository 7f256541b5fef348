// What the mpi backend does beside the suite of all backends: a mesh, ranks that are missing, too many or killed, generations.
#include "cluster/comm/mpi_communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <thread>

#include "tests/support/mpi_ranks.h"

namespace weft {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::MpiRun;
using testing::RunUnderMpirun;

Status Expect(bool condition, const std::string& what) {
  return condition ? OkStatus() : Internal(what);
}

Status SumOverAxes(const ParallelDims& dims, int rank, MeshCommunicators& mine) {
  const Mesh mesh(dims);
  for (const Axis axis : {Axis::kData, Axis::kTensor, Axis::kPipeline}) {
    Communicator* comm = mine.Of(axis).get();
    WEFT_RETURN_IF_ERROR(Expect((comm != nullptr) == (dims.Degree(axis) > 1), "null"));
    if (comm == nullptr) continue;
    const std::vector<int> group = mesh.Group(axis, rank);
    // In fp64, in rank order, with the ranks' own numbers: 1 + 2^-53 + ... depends on who is who.
    double sum = rank == group.front() ? 1.0 : 0x1p-53;
    std::vector<int64_t> all(group.size());
    const int64_t own = rank;
    // Both under way at once with those of the other axes.
    const WorkPtr summed =
        comm->AllReduce(&sum, 1, DType::kFloat64, ReduceOp::kSum, {.name = "sum"});
    const WorkPtr gathered = comm->AllGather(&own, all.data(), 1, DType::kInt64, {.name = "ranks"});
    WEFT_RETURN_IF_ERROR(gathered->Wait());
    WEFT_RETURN_IF_ERROR(summed->Wait());
    WEFT_RETURN_IF_ERROR(Expect(sum == 1.0, AxisName(axis)));
    for (size_t i = 0; i < group.size(); ++i)
      WEFT_RETURN_IF_ERROR(Expect(all[i] == group[i], "another order of the ranks"));
  }
  return OkStatus();
}

TEST(MpiMeshTest, AxesHaveTheCoordinatorsOrder) {
  const ParallelDims dims{.pp = 2, .dp = 1, .tp = 2};
  const MpiRun run = RunUnderMpirun(4, [&](int world_rank) -> Status {
    const int rank = (world_rank + 3) % 4;
    FlightRecorder recorder;
    WEFT_ASSIGN_OR_RETURN(auto mine,
                          ConnectMpiMesh(dims, {.rank = rank, .size = 4, .recorder = &recorder}));
    WEFT_RETURN_IF_ERROR(SumOverAxes(dims, rank, mine));
    // After a barrier on each axis all have come here. A failure on one axis is one on all, and goes round.
    Status ended = mine.tp->Barrier({.name = "tp"})->Wait();
    if (ended.ok()) ended = mine.pp->Barrier({.name = "pp"})->Wait();
    if (rank == 0) mine.tp->Abort(Cancelled("enough"));
    while (ended.ok()) ended = mine.pp->Barrier({.name = "on"})->Wait();
    WEFT_RETURN_IF_ERROR(
        Expect(ended.message().find("enough") != std::string::npos, ended.ToString()));
    const std::string group = "tp." + std::to_string(Mesh(dims).Group(Axis::kTensor, rank)[0]);
    return Expect(recorder.Snapshot().find(group) != std::string::npos, recorder.Snapshot());
  });
  EXPECT_TRUE(run.FirstFailure().ok()) << run.FirstFailure();
}

// Rank 1 never calls MPI_Init; rank 0 gives up in time instead of waiting in it for ever.
TEST(MpiCommunicatorTest, ARankThatNeverComesRunsIntoTheDeadline) {
  const MpiRun run = RunUnderMpirun(2, [](int world_rank) -> Status {
    if (world_rank == 1) {
      std::this_thread::sleep_for(std::chrono::seconds(2));
      return OkStatus();
    }
    const TimePoint begin = Clock::now();
    const auto made = ConnectMpi({.rank = 0, .size = 2, .timeout = std::chrono::milliseconds(700)});
    WEFT_RETURN_IF_ERROR(
        Expect(made.status().code() == StatusCode::kDeadlineExceeded, made.status().ToString()));
    WEFT_RETURN_IF_ERROR(Expect(made.status().message().find("has not come") != std::string::npos,
                                made.status().ToString()));
    return Expect(Clock::now() - begin < std::chrono::milliseconds(1800), "took too long");
  });
  EXPECT_TRUE(run.FirstFailure().ok()) << run.FirstFailure();
}

TEST(MpiCommunicatorTest, AKilledRankEndsTheLauncher) {
  const TimePoint begin = Clock::now();
  const MpiRun run = RunUnderMpirun(2, [](int world_rank) -> Status {
    WEFT_ASSIGN_OR_RETURN(auto comm, ConnectMpi({.rank = world_rank, .size = 2}));
    WEFT_RETURN_IF_ERROR(comm->Barrier({.name = "start"})->Wait());
    if (world_rank == 1) raise(SIGKILL);
    return comm->Barrier({.name = "never"})->Wait();
  });
  EXPECT_NE(run.exit_code, 0);
  EXPECT_FALSE(run.ranks[0].ok());
  EXPECT_THAT(run.ranks[1].message(), HasSubstr("without a word"));
  EXPECT_LT(ToSeconds(Clock::now() - begin), 20.0);
}

TEST(MpiCommunicatorTest, AProcessIsForOneGeneration) {
  const MpiRun run = RunUnderMpirun(1, [](int) -> Status {
    const auto many = ConnectMpi({.rank = 0, .size = 3});
    WEFT_RETURN_IF_ERROR(
        Expect(many.status().message().find("started 1 processes and the layout has 3 ranks") !=
                   std::string::npos,
               many.status().ToString()));
    WEFT_RETURN_IF_ERROR(ConnectMpi({.rank = 0, .size = 1}).status());
    const auto again = ConnectMpi({.rank = 0, .size = 1});
    return Expect(again.status().message().find("wants a new launcher") != std::string::npos,
                  again.status().ToString());
  });
  EXPECT_TRUE(run.FirstFailure().ok()) << run.FirstFailure();
}

TEST(MpiCommunicatorTest, WithoutALauncherItSaysHowToStart) {
  const auto made = ConnectMpi({.rank = 0, .size = 2});
  EXPECT_EQ(made.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(made.status().message(), AllOf(HasSubstr("mpirun -n 2 weft agent")));
}

}  // namespace
}  // namespace weft
