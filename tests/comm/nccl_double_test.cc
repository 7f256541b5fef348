// What the nccl backend does when things go wrong, a mesh of it, and its lanes; on the doubles of NCCL and CUDA.
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <set>
#include <thread>

#include "cluster/comm/nccl_connect.h"
#include "cluster/comm/nccl_lanes.h"
#include "tests/comm/backends.h"
#include "tests/comm/compute.h"
#include "tests/gpu_double/contract.h"

namespace weft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::ProcessWorld;
using testing::RankProcess;

constexpr auto kShort = std::chrono::milliseconds(300);

Status Expect(bool condition, const std::string& what) {
  return condition ? OkStatus() : Internal(what);
}

TEST(NcclDoubleTest, ADeadlineNamesTheOperationAndStays) {
  const Status status = testing::NcclThreads::Run(2, [](Communicator& comm) -> Status {
    std::vector<float> data(100, 1.0f);
    WEFT_RETURN_IF_ERROR(comm.Barrier({.name = "start"})->Wait());
    if (comm.rank() == 1) return OkStatus();
    const Status late = comm.AllReduce(data.data(), 100, DType::kFloat32, ReduceOp::kSum,
                                       {.name = "g", .timeout = kShort})
                            ->Wait();
    WEFT_RETURN_IF_ERROR(Expect(late.code() == StatusCode::kDeadlineExceeded, late.ToString()));
    WEFT_RETURN_IF_ERROR(
        Expect(late.message() == "all_reduce g #2: not done after 0.3s", late.ToString()));
    comm.Abort(Cancelled("later"));
    const Status again = comm.Barrier({.name = "again"})->Wait();
    return Expect(again.message() == late.message(), again.ToString());
  });
  EXPECT_TRUE(status.ok()) << status;
}

// The event of a kernel that was aborted comes; the operation must not pass for done.
TEST(NcclDoubleTest, AbortFromAnotherThreadEndsTheWait) {
  const Status status = testing::NcclThreads::Run(2, [](Communicator& comm) -> Status {
    if (comm.rank() == 1) return OkStatus();
    WorkPtr work = comm.Barrier({.name = "never"});
    WEFT_RETURN_IF_ERROR(
        Expect(comm.CurrentOperation() == "barrier never #1", comm.CurrentOperation()));
    std::thread aborter([&comm] {
      std::this_thread::sleep_for(std::chrono::milliseconds(30));
      comm.Abort(Cancelled("the operator said so"));
    });
    const Status ended = work->Wait();
    aborter.join();
    return Expect(ended.message() == "the operator said so", ended.ToString());
  });
  EXPECT_TRUE(status.ok()) << status;
}

TEST(NcclDoubleTest, RanksThatDisagreeAreBreaches) {
  const Status status = testing::NcclThreads::Run(2, [](Communicator& comm) -> Status {
    float data[8] = {};
    const Status ended = comm.AllReduce(data, comm.rank() == 0 ? 4 : 8, DType::kFloat32,
                                        ReduceOp::kSum, {.name = "loss"})
                             ->Wait();
    return Expect(ended.code() == StatusCode::kUnavailable, ended.ToString());
  });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT(testing::TakeBreaches(), ElementsAre(HasSubstr("ranks disagree")));
}

// A message goes behind what is on the caller's stream, and a collective behind the message.
TEST(NcclDoubleTest, MessagesAreOrderedWithTheCallersStream) {
  const Status status = testing::NcclThreads::Run(2, [](Communicator& comm) -> Status {
    cudaSetDevice(comm.rank());
    cudaStream_t stream = nullptr;
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    const std::vector<int64_t> source(1000, 5);
    std::vector<int64_t> data(1000, 0);
    WorkPtr message;
    if (comm.rank() == 0) {
      cudaMemcpyAsync(data.data(), source.data(), 8000, cudaMemcpyDeviceToDevice, stream);
      message = comm.Send(data.data(), 8000, 1, {.name = "act", .stream = stream});
    } else {
      message = comm.Recv(data.data(), 8000, 0, {.name = "act", .stream = stream});
    }
    WorkPtr sum = comm.AllReduce(data.data(), 1000, DType::kInt64, ReduceOp::kSum, {.name = "s"});
    WEFT_RETURN_IF_ERROR(sum->Wait());
    WEFT_RETURN_IF_ERROR(message->Wait());
    cudaStreamDestroy(stream);
    return Expect(data == std::vector<int64_t>(1000, 10), std::to_string(data[0]));
  });
  EXPECT_TRUE(status.ok()) << status;
}

TEST(NcclDoubleTest, WithoutALaneAMessageIsRefused) {
  const auto id = MakeNcclUniqueId();
  ASSERT_TRUE(id.ok());
  auto comm = ConnectNccl({.unique_id = *id, .lanes = NcclLanes::kNone});
  ASSERT_TRUE(comm.ok()) << comm.status();
  char byte = 0;
  EXPECT_EQ((*comm)->Send(&byte, 1, 0, {.name = "x"})->Wait().code(),
            StatusCode::kFailedPrecondition);
}

TEST(NcclLanesTest, RoundsHaveEveryPairOnce) {
  for (int size = 2; size <= 9; ++size) {
    for (const NcclLanes lanes : {NcclLanes::kRing, NcclLanes::kAllPairs}) {
      std::set<std::pair<int, int>> pairs;
      for (const auto& round : nccl::PlanLanes(size, lanes)) {
        std::set<int> ranks;
        for (const auto& [a, b] : round) {
          EXPECT_LT(a, b);
          EXPECT_TRUE(ranks.insert(a).second && ranks.insert(b).second);
          EXPECT_TRUE(pairs.emplace(a, b).second);
        }
      }
      const int ring = size == 2 ? 1 : size;
      EXPECT_EQ(pairs.size(), lanes == NcclLanes::kRing ? ring : size * (size - 1) / 2) << size;
    }
  }
}

// A rank dies; the others come to their deadline, abort, and make a smaller world in place.
TEST(NcclDoubleTest, SurvivorsOfADeathGoOnAsANewGeneration) {
  ProcessWorld world({.size = 3});
  const auto results = world.Run(
      [](RankProcess& self) -> StatusOr<std::string> {
        const int rank = self.comm.rank();
        int64_t value = rank + 1;
        const auto exchange_id = [&](NcclOptions* options, bool makes) -> Status {
          if (makes) {
            WEFT_ASSIGN_OR_RETURN(options->unique_id, MakeNcclUniqueId());
          }
          return OkStatus();
        };
        NcclOptions options{.rank = rank, .size = 3, .device = rank};
        NcclOptions next{.rank = rank, .size = 2, .device = rank};
        WEFT_RETURN_IF_ERROR(exchange_id(&options, rank == 0));
        WEFT_RETURN_IF_ERROR(exchange_id(&next, rank == 0));
        for (NcclUniqueId* id : {&options.unique_id, &next.unique_id})
          WEFT_RETURN_IF_ERROR(
              self.comm.Broadcast(id->data(), id->size(), 0, {.name = "id"})->Wait());
        WEFT_ASSIGN_OR_RETURN(auto comm, ConnectNccl(options));
        WEFT_RETURN_IF_ERROR(comm->Barrier({.name = "start"})->Wait());
        if (rank == 2) {
          self.Note("kill me");
          std::this_thread::sleep_for(std::chrono::minutes(1));
        }
        const Status lost = comm->Barrier({.name = "step", .timeout = kShort})->Wait();
        WEFT_RETURN_IF_ERROR(Expect(lost.code() == StatusCode::kDeadlineExceeded, lost.ToString()));
        WEFT_ASSIGN_OR_RETURN(comm, ConnectNccl(next));
        WEFT_RETURN_IF_ERROR(
            comm->AllReduce(&value, 1, DType::kInt64, ReduceOp::kSum, {.name = "sum"})->Wait());
        return std::to_string(value);
      },
      [](ProcessWorld& w, int rank, const std::string&) { w.Signal(rank, SIGKILL); });
  for (size_t rank = 0; rank < 2; ++rank) {
    EXPECT_TRUE(results[rank].status.ok()) << results[rank].status << results[rank].output;
    EXPECT_EQ(results[rank].value, "3");
  }
}

// ---------------------------------------------------------------- a mesh

Status SumOverAxes(const ParallelDims& dims, int rank, MeshCommunicators& mine) {
  const Mesh mesh(dims);
  for (const Axis axis : {Axis::kData, Axis::kTensor, Axis::kPipeline}) {
    Communicator* comm = mine.Of(axis).get();
    WEFT_RETURN_IF_ERROR(Expect((comm != nullptr) == (dims.Degree(axis) > 1), "null"));
    if (comm == nullptr) continue;
    int64_t sum = rank;
    WEFT_RETURN_IF_ERROR(
        comm->AllReduce(&sum, 1, DType::kInt64, ReduceOp::kSum, {.name = "sum"})->Wait());
    int64_t expected = 0;
    for (const int member : mesh.Group(axis, rank)) expected += member;
    WEFT_RETURN_IF_ERROR(Expect(sum == expected, AxisName(axis)));
  }
  if (mine.pp == nullptr) return OkStatus();
  // Both ways around the ring, receives first.
  const int n = mine.pp->size();
  const int next = (mine.pp->rank() + 1) % n;
  const int previous = (mine.pp->rank() + n - 1) % n;
  std::vector<int64_t> from(2, -1);
  const int64_t own = mine.pp->rank();
  std::vector<WorkPtr> works;
  works.push_back(mine.pp->Recv(&from[0], 8, previous, {.name = "act"}));
  if (n > 2) works.push_back(mine.pp->Recv(&from[1], 8, next, {.name = "grad"}));
  works.push_back(mine.pp->Send(&own, 8, next, {.name = "act"}));
  if (n > 2) works.push_back(mine.pp->Send(&own, 8, previous, {.name = "grad"}));
  for (const WorkPtr& work : works) WEFT_RETURN_IF_ERROR(work->Wait());
  return Expect(from[0] == previous && (n == 2 || from[1] == next), "not from the neighbours");
}

TEST(NcclMeshTest, AllAxesOfLayoutsAndANextGenerationInPlace) {
  constexpr ParallelDims kLayouts[] = {{.pp = 2, .dp = 1, .tp = 1},
                                       {.pp = 3, .dp = 1, .tp = 2},
                                       {.pp = 4, .dp = 2, .tp = 1},
                                       {.pp = 2, .dp = 2, .tp = 2}};
  for (const ParallelDims& dims : kLayouts) {
    for (int generation = 0; generation < 2; ++generation) {
      const auto id = MakeNcclUniqueId();
      ASSERT_TRUE(id.ok());
      std::vector<std::thread> threads;
      for (int rank = 0; rank < dims.world_size(); ++rank) {
        threads.emplace_back([&, rank] {
          FlightRecorder recorder;
          auto mine = ConnectNcclMesh(dims, {.rank = rank,
                                             .size = dims.world_size(),
                                             .unique_id = *id,
                                             .device = rank,
                                             .recorder = &recorder});
          ASSERT_TRUE(mine.ok()) << mine.status();
          const Status status = SumOverAxes(dims, rank, *mine);
          EXPECT_TRUE(status.ok()) << "rank " << rank << ": " << status;
          EXPECT_THAT(
              recorder.Snapshot(),
              HasSubstr("pp." + std::to_string(Mesh(dims).Group(Axis::kPipeline, rank)[0])));
          mine->Abort(Cancelled("next generation"));
        });
      }
      for (std::thread& thread : threads) thread.join();
    }
  }
}

// One axis comes to its deadline while a kernel of another one waits for its peer, too: both end, with the first cause.
TEST(NcclMeshTest, AFailureOnOneAxisEndsAll) {
  const ParallelDims dims{.pp = 2, .dp = 2, .tp = 1};
  const auto id = MakeNcclUniqueId();
  ASSERT_TRUE(id.ok());
  std::vector<std::thread> threads;
  for (int rank = 0; rank < dims.world_size(); ++rank) {
    threads.emplace_back([&, rank] {
      auto mine =
          ConnectNcclMesh(dims, {.rank = rank, .size = 4, .unique_id = *id, .device = rank});
      ASSERT_TRUE(mine.ok()) << mine.status();
      if (rank != 0) return;
      testing::Compute compute(0);
      testing::Compute other(0);
      const WorkPtr act = mine->pp->Recv(other.data.data(), 8, 1, other.Op("act"));
      const WorkPtr sum = compute.Sum(*mine->dp, compute.Op("grads", kShort));
      EXPECT_TRUE(act->Wait().ok());
      static_cast<void>(sum->Wait());
      compute.Synchronize();
      other.Synchronize();
      for (Communicator* axis : mine->All()) {
        EXPECT_EQ(axis->failure().code(), StatusCode::kDeadlineExceeded) << axis->failure();
        EXPECT_THAT(axis->failure().message(), HasSubstr("all_reduce grads #2: not done"));
      }
      EXPECT_EQ(act->Wait().message(), mine->dp->failure().message());
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace weft
