#include "tests/comm/backends.h"

#include <thread>
#include <utility>

#include "cluster/base/mutex.h"
#include "cluster/comm/mpi_communicator.h"
#include "cluster/comm/nccl_connect.h"
#include "cluster/comm/staged_communicator.h"
#include "cluster/comm/tcp_communicator.h"
#include "tests/gpu_double/contract.h"
#include "tests/support/mpi_ranks.h"

namespace weft::testing {
namespace {

[[maybe_unused]] const bool kListening = FailTestsOnBreaches();

}  // namespace

StatusOr<std::vector<std::unique_ptr<Communicator>>> MakeTcpCommunicators(int size,
                                                                          bool shared_memory) {
  std::vector<std::unique_ptr<Listener>> listeners;
  std::vector<std::string> endpoints;
  for (int rank = 0; rank < size; ++rank) {
    WEFT_ASSIGN_OR_RETURN(auto listener, Listener::Bind({}));
    endpoints.push_back(listener->endpoint());
    listeners.push_back(std::move(listener));
  }
  std::vector<std::unique_ptr<Communicator>> communicators(static_cast<size_t>(size));
  std::vector<Status> statuses(static_cast<size_t>(size));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      const auto r = static_cast<size_t>(rank);
      auto communicator = ConnectTcp({.rank = rank,
                                      .endpoints = endpoints,
                                      .run_token = "token",
                                      .epoch = 1,
                                      .generation = 2,
                                      .timeout = std::chrono::seconds(20),
                                      .shared_memory = shared_memory},
                                     *listeners[r]);
      statuses[r] = communicator.status();
      if (communicator.ok()) communicators[r] = *std::move(communicator);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Status& status : statuses) WEFT_RETURN_IF_ERROR(status);
  return communicators;
}

Status TcpThreads::Run(int size, const RankFn& fn) {
  WEFT_ASSIGN_OR_RETURN(auto communicators, MakeTcpCommunicators(size, true));
  return RunOnThreads(std::move(communicators), fn);
}

Status TcpThreadsOverSockets::Run(int size, const RankFn& fn) {
  WEFT_ASSIGN_OR_RETURN(auto communicators, MakeTcpCommunicators(size, false));
  return RunOnThreads(std::move(communicators), fn);
}

Status StagedThreads::Run(int size, const RankFn& fn) {
  WEFT_ASSIGN_OR_RETURN(auto communicators, MakeTcpCommunicators(size, true));
  for (int rank = 0; rank < size; ++rank) {
    auto& communicator = communicators[static_cast<size_t>(rank)];
    WEFT_ASSIGN_OR_RETURN(communicator, StageThroughHost(std::move(communicator), rank));
  }
  return RunOnThreads(std::move(communicators), fn);
}

Status TcpProcesses::Run(int size, const RankFn& fn) {
  ProcessWorld world({.size = size});
  return FirstFailure(world.Run([&fn](RankProcess& self) -> StatusOr<std::string> {
    WEFT_RETURN_IF_ERROR(fn(self.comm));
    return std::string();
  }));
}

Status MpiProcesses::Run(int size, const RankFn& fn) {
  const auto body = [size, &fn](int world_rank) -> Status {
    WEFT_ASSIGN_OR_RETURN(auto communicator, ConnectMpi({.rank = (world_rank + 1) % size,
                                                         .size = size,
                                                         .timeout = std::chrono::seconds(20)}));
    return fn(*communicator);
  };
  return RunUnderMpirun(size, body).FirstFailure();
}

StatusOr<std::vector<std::unique_ptr<Communicator>>> MakeNcclCommunicators(int size) {
  WEFT_ASSIGN_OR_RETURN(const NcclUniqueId id, MakeNcclUniqueId());
  std::vector<std::unique_ptr<Communicator>> communicators(static_cast<size_t>(size));
  std::vector<Status> statuses(static_cast<size_t>(size));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      const auto r = static_cast<size_t>(rank);
      auto made = ConnectNccl({.rank = rank, .size = size, .unique_id = id, .device = rank});
      statuses[r] = made.status();
      if (made.ok()) communicators[r] = *std::move(made);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Status& status : statuses) WEFT_RETURN_IF_ERROR(status);
  return communicators;
}

Status RunAbortingAll(std::vector<std::unique_ptr<Communicator>> communicators, const RankFn& fn) {
  Mutex mutex;
  Status first;
  std::vector<std::thread> threads;
  for (const auto& communicator : communicators) {
    threads.emplace_back([&, comm = communicator.get()] {
      const Status status = fn(*comm);
      if (status.ok()) return;
      {
        MutexLock lock(mutex);
        if (first.ok()) first = status.WithContext("rank " + std::to_string(comm->rank()));
      }
      for (const auto& each : communicators) each->Abort(status);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return first;
}

Status NcclThreads::Run(int size, const RankFn& fn) {
  WEFT_ASSIGN_OR_RETURN(auto communicators, MakeNcclCommunicators(size));
  return RunAbortingAll(std::move(communicators), fn);
}

Status NcclProcesses::Run(int size, const RankFn& fn) {
  ProcessWorld world({.size = size});
  return FirstFailure(world.Run([&](RankProcess& self) -> StatusOr<std::string> {
    NcclOptions options{.rank = self.comm.rank(), .size = size, .device = self.comm.rank()};
    if (options.rank == 0) {
      WEFT_ASSIGN_OR_RETURN(options.unique_id, MakeNcclUniqueId());
    }
    WEFT_RETURN_IF_ERROR(
        self.comm
            .Broadcast(options.unique_id.data(), options.unique_id.size(), 0, {.name = "unique id"})
            ->Wait());
    WEFT_ASSIGN_OR_RETURN(auto communicator, ConnectNccl(options));
    WEFT_RETURN_IF_ERROR(fn(*communicator));
    // Nobody takes the segment away while others are still in it.
    WEFT_RETURN_IF_ERROR(self.comm.Barrier({.name = "end"})->Wait());
    return std::string();
  }));
}

}  // namespace weft::testing
