#include "tests/comm/backends.h"

#include <thread>
#include <utility>

#include "cluster/comm/tcp_communicator.h"

namespace weft::testing {

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

Status TcpProcesses::Run(int size, const RankFn& fn) {
  ProcessWorld world({.size = size});
  return FirstFailure(world.Run([&fn](RankProcess& self) -> StatusOr<std::string> {
    WEFT_RETURN_IF_ERROR(fn(self.comm));
    return std::string();
  }));
}

}  // namespace weft::testing
