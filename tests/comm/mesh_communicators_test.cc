// One communicator an axis, over threads and processes; several groups over one listener; a rank lost on all its axes.
#include "cluster/comm/mesh_communicators.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <array>
#include <functional>
#include <numeric>
#include <thread>

#include "cluster/base/logging.h"
#include "cluster/base/text.h"
#include "cluster/comm/segment.h"
#include "cluster/comm/tcp_socket.h"
#include "tests/comm/backends.h"

namespace weft {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::ProcessWorld;
using testing::RankProcess;

constexpr Axis kAxes[] = {Axis::kData, Axis::kTensor, Axis::kPipeline};

// All worlds of up to 8 ranks that differ in more than the order of two equal axes would.
const ParallelDims kWorlds[] = {
    {.pp = 1, .dp = 1, .tp = 1}, {.pp = 1, .dp = 2, .tp = 1}, {.pp = 1, .dp = 1, .tp = 2},
    {.pp = 2, .dp = 1, .tp = 1}, {.pp = 3, .dp = 1, .tp = 1}, {.pp = 2, .dp = 2, .tp = 1},
    {.pp = 2, .dp = 1, .tp = 2}, {.pp = 1, .dp = 2, .tp = 2}, {.pp = 1, .dp = 5, .tp = 1},
    {.pp = 2, .dp = 3, .tp = 1}, {.pp = 3, .dp = 1, .tp = 2}, {.pp = 1, .dp = 1, .tp = 7},
    {.pp = 2, .dp = 2, .tp = 2}, {.pp = 1, .dp = 2, .tp = 4}, {.pp = 8, .dp = 1, .tp = 1}};

using MeshFn = std::function<Status(int rank, MeshCommunicators&)>;

Status Expect(bool condition, const std::string& what) {
  return condition ? OkStatus() : Internal(what);
}

std::vector<std::unique_ptr<Listener>> Listeners(int count) {
  std::vector<std::unique_ptr<Listener>> listeners;
  for (int i = 0; i < count; ++i) {
    auto listener = Listener::Bind({});
    WEFT_CHECK_OK(listener.status());
    listeners.push_back(*std::move(listener));
  }
  return listeners;
}

TcpOptions Options(const std::vector<std::unique_ptr<Listener>>& listeners, int rank) {
  TcpOptions options{.rank = rank, .run_token = "mesh", .epoch = 1, .generation = 4};
  for (const auto& listener : listeners) options.endpoints.push_back(listener->endpoint());
  options.timeout = std::chrono::seconds(10);
  return options;
}

// The status of each rank, each in a thread.
std::vector<Status> OnThreads(int ranks, const std::function<Status(int)>& body) {
  std::vector<Status> statuses(static_cast<size_t>(ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] { statuses[static_cast<size_t>(rank)] = body(rank); });
  for (std::thread& thread : threads) thread.join();
  return statuses;
}

std::vector<Status> OnTcpThreads(const ParallelDims& dims, const MeshFn& fn) {
  const auto listeners = Listeners(dims.world_size());
  return OnThreads(dims.world_size(), [&](int rank) -> Status {
    WEFT_ASSIGN_OR_RETURN(
        MeshCommunicators mine,
        ConnectMesh(dims, Options(listeners, rank), *listeners[static_cast<size_t>(rank)]));
    return fn(rank, mine);
  });
}

// Operations under way and their buffers, which belong to them until Wait has returned for each: an axis may still be at work
// when another one has failed.
struct Traffic {
  std::array<std::vector<int64_t>, 3> data;
  int64_t from = -1;
  int64_t own = 0;
  std::vector<WorkPtr> works;
};

// Sums over all axes and a message around the pipeline, all under way at once.
Status AllAxesAtOnce(const ParallelDims& dims, int rank, MeshCommunicators& mine,
                     Traffic* traffic) {
  const Mesh mesh(dims);
  auto& [data, from, own, works] = *traffic;
  for (size_t i = 0; i < 3; ++i) {
    Communicator* comm = mine.Of(kAxes[i]).get();
    WEFT_RETURN_IF_ERROR(Expect((comm != nullptr) == (dims.Degree(kAxes[i]) > 1), "null"));
    if (comm == nullptr) continue;
    WEFT_RETURN_IF_ERROR(Expect(comm->size() == dims.Degree(kAxes[i]), "size"));
    WEFT_RETURN_IF_ERROR(Expect(comm->rank() == mesh.CoordinateOf(rank).Index(kAxes[i]), "rank"));
    data[i].assign(40'000, rank);
    works.push_back(comm->AllReduce(data[i].data(), data[i].size(), DType::kInt64, ReduceOp::kSum,
                                    {.name = "sum"}));
  }
  const int stages = mine.pp == nullptr ? 1 : mine.pp->size();
  const int previous = mine.pp == nullptr ? 0 : (mine.pp->rank() + stages - 1) % stages;
  if (mine.pp != nullptr) {
    own = rank;
    works.push_back(mine.pp->Recv(&from, sizeof(from), previous, {}));
    works.push_back(mine.pp->Send(&own, sizeof(own), (mine.pp->rank() + 1) % stages, {}));
  }
  for (const WorkPtr& work : works) WEFT_RETURN_IF_ERROR(work->Wait());
  if (mine.pp != nullptr) {
    const std::vector<int> group = mesh.Group(Axis::kPipeline, rank);
    WEFT_RETURN_IF_ERROR(
        Expect(from == group[static_cast<size_t>(previous)], "not from the stage before"));
  }
  for (size_t i = 0; i < 3; ++i) {
    if (data[i].empty()) continue;
    const std::vector<int> group = mesh.Group(kAxes[i], rank);
    const int64_t sum = std::accumulate(group.begin(), group.end(), int64_t{0});
    WEFT_RETURN_IF_ERROR(
        Expect(data[i] == std::vector<int64_t>(data[i].size(), sum), AxisName(kAxes[i])));
  }
  return OkStatus();
}

void End(const Status& reason, MeshCommunicators& mine, const Traffic& traffic) {
  mine.Abort(reason);
  for (const WorkPtr& work : traffic.works) static_cast<void>(work->Wait());
}

Status AllAxesAtOnce(const ParallelDims& dims, int rank, MeshCommunicators& mine) {
  Traffic traffic;
  const Status status = AllAxesAtOnce(dims, rank, mine, &traffic);
  if (!status.ok()) End(status, mine, traffic);
  return status;
}

TEST(MeshCommunicatorsTest, AllAxesAtOnceOverTcp) {
  for (const ParallelDims& dims : kWorlds) {
    const auto statuses = OnTcpThreads(
        dims, [&](int rank, MeshCommunicators& mine) { return AllAxesAtOnce(dims, rank, mine); });
    for (const Status& status : statuses) EXPECT_TRUE(status.ok()) << status;
  }
}

TEST(MeshCommunicatorsTest, AllAxesAtOnceInProcess) {
  for (const ParallelDims& dims : kWorlds) {
    auto mesh = MakeInProcessMesh(dims);
    ASSERT_TRUE(mesh.ok()) << mesh.status();
    const auto statuses = OnThreads(dims.world_size(), [&](int rank) {
      return AllAxesAtOnce(dims, rank, (*mesh)[static_cast<size_t>(rank)]);
    });
    for (const Status& status : statuses) EXPECT_TRUE(status.ok()) << status;
  }
}

// Ranks as processes: their endpoints are gathered over the world's own communicator.
StatusOr<MeshCommunicators> ConnectProcesses(const ParallelDims& dims, Communicator& world) {
  WEFT_ASSIGN_OR_RETURN(auto listener, Listener::Bind({}));
  constexpr size_t kLength = 64;
  std::string own = listener->endpoint();
  own.resize(kLength, '\0');
  std::string all(kLength * static_cast<size_t>(world.size()), '\0');
  WEFT_RETURN_IF_ERROR(
      world.AllGather(own.data(), all.data(), kLength, DType::kUInt8, {.name = "e"})->Wait());
  TcpOptions options{.rank = world.rank(), .run_token = "mesh", .epoch = 1, .generation = 4};
  for (size_t at = 0; at < all.size(); at += kLength)
    options.endpoints.emplace_back(all.substr(at, kLength).c_str());
  return ConnectMesh(dims, options, *listener);
}

TEST(MeshCommunicatorsTest, AllAxesAtOnceOverProcesses) {
  const ParallelDims dims{.pp = 2, .dp = 2, .tp = 2};
  ProcessWorld world({.size = dims.world_size()});
  const auto results = world.Run([&](RankProcess& self) -> StatusOr<std::string> {
    WEFT_ASSIGN_OR_RETURN(MeshCommunicators mine, ConnectProcesses(dims, self.comm));
    for (int i = 0; i < 20; ++i) WEFT_RETURN_IF_ERROR(AllAxesAtOnce(dims, self.comm.rank(), mine));
    return std::string();
  });
  EXPECT_TRUE(testing::FirstFailure(results).ok()) << testing::FirstFailure(results);
}

// Rank 3 of (dp 2, tp 2) is with 1 in dp and with 2 in tp; rank 0 hears by way of them.
TEST(MeshCommunicatorsTest, ALostRankEndsTheOperationsOnAllItsAxes) {
  const ParallelDims dims{.pp = 1, .dp = 2, .tp = 2};
  ProcessWorld world({.size = 4});
  const auto results = world.Run(
      [&](RankProcess& self) -> StatusOr<std::string> {
        WEFT_ASSIGN_OR_RETURN(MeshCommunicators mine, ConnectProcesses(dims, self.comm));
        for (int step = 0;; ++step) {
          if (step == 5 && self.comm.rank() == 3) self.Note("running");
          Traffic traffic;
          const Status status = AllAxesAtOnce(dims, self.comm.rank(), mine, &traffic);
          if (status.ok()) continue;
          // The axis with rank 3 hears it from the connection, whatever the other axis waited for.
          const Communicator* with_3 =
              std::array{static_cast<Communicator*>(nullptr), mine.dp.get(),
                         mine.tp.get()}[static_cast<size_t>(self.comm.rank())];
          const TimePoint give_up = Clock::now() + std::chrono::seconds(10);
          while (with_3 != nullptr && with_3->failure().ok() && Clock::now() < give_up)
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
          End(status, mine, traffic);
          return with_3 == nullptr ? mine.failure() : with_3->failure();
        }
      },
      [](ProcessWorld& w, int rank, const std::string&) { w.Signal(rank, SIGKILL); });
  for (size_t rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(results[rank].status.code(), StatusCode::kUnavailable) << results[rank].status;
    EXPECT_THAT(results[rank].status.message(), HasSubstr("rank 3 is lost"))
        << results[rank].output;
  }
}

TEST(MeshCommunicatorsTest, DeadlinesNameRanksByTheirNumbersInTheWorld) {
  auto mesh = MakeInProcessMesh({.pp = 2, .dp = 2, .tp = 2});
  ASSERT_TRUE(mesh.ok()) << mesh.status();
  MeshCommunicators& last = mesh->back();
  const Status late =
      last.tp->Barrier({.name = "late", .timeout = std::chrono::milliseconds(100)})->Wait();
  EXPECT_THAT(late.message(),
              HasSubstr("barrier late #1: not done after 0.1s, waiting for rank 6"));
  EXPECT_THAT(last.failure().message(), HasSubstr("barrier late"));
  WorkPtr waits = last.dp->Barrier({.name = "dp"});
  const TimePoint give_up = Clock::now() + std::chrono::seconds(10);
  while (last.CurrentOperation() != "dp: barrier dp #1, waiting for rank 5" &&
         Clock::now() < give_up)
    std::this_thread::yield();
  EXPECT_EQ(last.CurrentOperation(), "dp: barrier dp #1, waiting for rank 5");
  last.Abort(Cancelled("over"));
  EXPECT_EQ(waits->Wait().code(), StatusCode::kCancelled);
}

TEST(MeshCommunicatorsTest, RanksOfAnotherGenerationOrLayoutAreRefusedByName) {
  const ParallelDims dims{.pp = 1, .dp = 2, .tp = 2};
  const auto listeners = Listeners(4);
  const auto connect = [&](const std::function<void(int, ParallelDims*, TcpOptions*)>& change) {
    return OnThreads(4, [&](int rank) -> Status {
      ParallelDims own = dims;
      TcpOptions options = Options(listeners, rank);
      options.timeout = std::chrono::milliseconds(400);
      change(rank, &own, &options);
      return ConnectMesh(own, options, *listeners[static_cast<size_t>(rank)]).status();
    });
  };
  const auto stale = connect([](int rank, ParallelDims*, TcpOptions* options) {
    if (rank == 3) options->generation = 3;
  });
  EXPECT_THAT(stale[3].message(), AllOf(HasSubstr("dp.1: rank 1 refused"),
                                        HasSubstr("rank 3 is of (epoch 1, generation 3)")));
  EXPECT_THAT(stale[1].message(), HasSubstr("no connection from rank 3 for dp.1"));

  // Rank 3 believes in pp 2 x tp 2, and calls rank 1 for a group that rank 1 is not in.
  const auto other = connect([](int rank, ParallelDims* own, TcpOptions*) {
    if (rank == 3) *own = {.pp = 2, .dp = 1, .tp = 2};
  });
  EXPECT_THAT(other[1].message(), HasSubstr("no connection from rank 3 for dp.1"));
  EXPECT_FALSE(other[3].ok());
}

// ---------------------------------------------------------------- several groups over one listener

TcpOptions GroupOptions(const std::vector<std::unique_ptr<Listener>>& listeners, int rank,
                        const std::vector<int>& members, const std::string& group) {
  TcpOptions options = Options(listeners, 0);
  const std::vector<std::string> endpoints = std::exchange(options.endpoints, {});
  for (size_t i = 0; i < members.size(); ++i) {
    if (members[i] == rank) options.rank = static_cast<int>(i);
    options.endpoints.push_back(endpoints[static_cast<size_t>(members[i])]);
  }
  options.world_ranks = members;
  options.group = group;
  return options;
}

// Rank 0 waits for rank 2 in group a; rank 1 calls it for group b long before.
TEST(ListenerGroupsTest, AnEarlyCallIsKeptForItsGroup) {
  const auto listeners = Listeners(3);
  const auto statuses = OnThreads(3, [&](int rank) -> Status {
    Listener& own = *listeners[static_cast<size_t>(rank)];
    const TcpOptions a = GroupOptions(listeners, rank, {0, 2}, "a");
    const TcpOptions b = GroupOptions(listeners, rank, {0, 1}, "b");
    if (rank == 2) std::this_thread::sleep_for(std::chrono::milliseconds(100));
    std::unique_ptr<Communicator> in_a;
    std::unique_ptr<Communicator> in_b;
    if (rank != 1) {
      WEFT_ASSIGN_OR_RETURN(in_a, ConnectTcp(a, own));
      WEFT_RETURN_IF_ERROR(in_a->Barrier({})->Wait());
    }
    if (rank != 2) {
      WEFT_ASSIGN_OR_RETURN(in_b, ConnectTcp(b, own));
      WEFT_RETURN_IF_ERROR(in_b->Barrier({})->Wait());
    }
    return OkStatus();
  });
  for (const Status& status : statuses) EXPECT_TRUE(status.ok()) << status;
}

TEST(ListenerGroupsTest, AGroupThatIsNotOursIsRefusedByName) {
  const auto listeners = Listeners(2);
  const auto statuses = OnThreads(2, [&](int rank) -> Status {
    TcpOptions options = GroupOptions(listeners, rank, {0, 1}, rank == 0 ? "dp.0" : "dp.9");
    options.other_groups = {"tp.0"};
    options.timeout = std::chrono::milliseconds(300);
    return ConnectTcp(options, *listeners[static_cast<size_t>(rank)]).status();
  });
  EXPECT_EQ(statuses[1].code(), StatusCode::kFailedPrecondition) << statuses[1];
  EXPECT_THAT(statuses[1].message(), HasSubstr("rank 1 connects for dp.9, rank 0 for dp.0"));
  EXPECT_THAT(statuses[0].message(), AllOf(HasSubstr("no connection from rank 1 for dp.0"),
                                           HasSubstr("rank 1 connects for dp.9")));
}

// Without other_groups it might come later; the message says who waits.
TEST(ListenerGroupsTest, ADeadlineSaysWhichGroupsWait) {
  const auto listeners = Listeners(2);
  const auto statuses = OnThreads(2, [&](int rank) -> Status {
    TcpOptions options = GroupOptions(listeners, rank, {0, 1}, rank == 0 ? "dp.0" : "dp.9");
    options.timeout = std::chrono::milliseconds(rank == 0 ? 200 : 400);
    return ConnectTcp(options, *listeners[static_cast<size_t>(rank)]).status();
  });
  EXPECT_THAT(statuses[0].message(), HasSubstr("others wait for dp.9"));
  EXPECT_THAT(statuses[1].message(), HasSubstr("waiting for the answer of rank 0"));
}

// What is kept has a bound in number and in time.
TEST(ListenerGroupsTest, WhatIsKeptIsBounded) {
  auto listener =
      Listener::Bind({.max_callers = 2, .keep_callers = std::chrono::milliseconds(150)});
  ASSERT_TRUE(listener.ok());
  const TimePoint deadline = Clock::now() + std::chrono::seconds(5);
  std::vector<UniqueFd> callers;
  for (int i = 0; i < 3; ++i) {
    auto hello = MakeHello("token", "later." + std::to_string(i));
    auto socket = ConnectToEndpoint((*listener)->endpoint(), deadline);
    ASSERT_TRUE(hello.ok() && socket.ok());
    ASSERT_TRUE(WriteAll(socket->get(), &*hello, sizeof(*hello), deadline).ok());
    (*listener)->Hear(deadline);
    callers.push_back(*std::move(socket));
  }
  EXPECT_EQ((*listener)->KeptGroups(), "later.0, later.1");
  char byte;
  EXPECT_EQ(ReadAll(callers[2].get(), &byte, 1, deadline).code(), StatusCode::kUnavailable);
  callers[0] = UniqueFd();  // hangs up
  (*listener)->Hear(deadline);
  EXPECT_EQ((*listener)->KeptGroups(), "later.1");
  std::this_thread::sleep_for(std::chrono::milliseconds(160));
  (*listener)->Hear(Clock::now());
  EXPECT_EQ((*listener)->KeptGroups(), "");
  EXPECT_EQ(ReadAll(callers[1].get(), &byte, 1, deadline).code(), StatusCode::kUnavailable);
}

// An axis of many ranks is address space until a ring is used.
TEST(SegmentTest, MemoryIsTakenByTheRingsInUse) {
  auto segment = Segment::Create(64, 128 << 10);
  ASSERT_TRUE(segment.ok());
  const auto taken = [&] {
    struct stat info {};
    fstat((*segment)->fd(), &info);
    return static_cast<size_t>(info.st_blocks) * 512;
  };
  EXPECT_LE(taken(), 16u << 10);
  std::vector<std::byte> bytes(128 << 10, std::byte{1});
  const iovec part{bytes.data(), bytes.size()};
  (*segment)->RingTo(5).Write(&part, 1, bytes.size());
  EXPECT_GE(taken(), 128u << 10);
  EXPECT_LE(taken(), 160u << 10);
}

}  // namespace
}  // namespace weft
