#include "tests/support/thread_world.h"

#include <string>
#include <thread>
#include <utility>

#include "cluster/base/mutex.h"
#include "cluster/comm/in_process_communicator.h"

namespace weft::testing {

Status ThreadWorld(int size, const RankFn& fn) {
  WEFT_ASSIGN_OR_RETURN(auto communicators, MakeInProcessCommunicators(size));
  return RunOnThreads(std::move(communicators), fn);
}

Status RunOnThreads(std::vector<std::unique_ptr<Communicator>> communicators, const RankFn& fn) {
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
      comm->Abort(status);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return first;
}

}  // namespace weft::testing
