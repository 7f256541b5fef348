#include "cluster/comm/mpi_process.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <deque>
#include <thread>
#include <utility>
#include <vector>

#include "cluster/base/logging.h"
#include "cluster/base/mutex.h"
#include "cluster/base/text.h"

namespace weft::mpi {
namespace {

// A rank without operations looks this often for news of a failure.
constexpr auto kIdlePeriod = std::chrono::milliseconds(10);
constexpr auto kTellingPeers = std::chrono::milliseconds(200);
constexpr auto kFinalize = std::chrono::seconds(10);

// How the thread passes the time while nothing moves: spinning only where each rank has a core.
class Backoff {
 public:
  explicit Backoff(int spins) : spins_(spins) {}
  void Reset() { looks_ = 0; }
  void Pause() {
    ++looks_;
    if (looks_ <= spins_) return;
    if (looks_ <= spins_ + kYields) {
      sched_yield();
      return;
    }
    const int naps = looks_ - spins_ - kYields;
    std::this_thread::sleep_for(std::chrono::microseconds(std::min(20 * naps, 200)));
  }

 private:
  static constexpr int kYields = 50;
  const int spins_;
  int looks_ = 0;
};

int EnvironmentNumber(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? -1 : std::atoi(text);
}

int SpinsOfThisHost() {
  constexpr int kSpins = 200;
  const int ranks = EnvironmentNumber("OMPI_COMM_WORLD_LOCAL_SIZE");
  return ranks >= 1 && ranks <= static_cast<int>(std::thread::hardware_concurrency()) ? kSpins : 0;
}

Status WrongSize(int started, int wanted) {
  return InvalidArgument("layout.backend MPI: the launcher started " + std::to_string(started) +
                         " processes and the layout has " + std::to_string(wanted) +
                         " ranks; start one agent a rank: mpirun -n " + std::to_string(wanted) +
                         " weft agent --run-dir DIR");
}

// Before MPI_Init: alone, it would start helpers of its own and make a world of one.
Status CheckLauncher(int size) {
  const int started = EnvironmentNumber("OMPI_COMM_WORLD_SIZE");
  if (started >= 0) return started == size ? OkStatus() : WrongSize(started, size);
  if (EnvironmentNumber("PMIX_RANK") >= 0) return OkStatus();  // srun --mpi=pmix
  return InvalidArgument(
      "layout.backend MPI: this worker's agent was not started by mpirun; start one agent a rank: "
      "mpirun -n " +
      std::to_string(size) + " weft agent --run-dir DIR");
}

Status Initialize(const Calls& calls, int size) {
  int before = 0;
  WEFT_RETURN_IF_ERROR(calls.From(calls.initialized(&before), "MPI_Initialized"));
  if (before != 0) {
    return FailedPrecondition(
        "MPI was used in this process before and cannot start again: each generation wants a new "
        "launcher");
  }
  int provided = MPI_THREAD_SINGLE;
  WEFT_RETURN_IF_ERROR(calls.From(
      calls.init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread"));
  if (provided < MPI_THREAD_FUNNELED)
    return FailedPrecondition("this MPI cannot be called from a thread beside the main one");
  WEFT_RETURN_IF_ERROR(calls.From(calls.comm_set_errhandler(calls.world, calls.errors_return),
                                  "MPI_Comm_set_errhandler"));
  int started = 0;
  WEFT_RETURN_IF_ERROR(calls.From(calls.comm_size(calls.world, &started), "MPI_Comm_size"));
  return started == size ? OkStatus() : WrongSize(started, size);
}

// What one thread asks of the other, and the answer.
struct Request {
  Process::Task task;
  bool done = false;
  Status status;
};

}  // namespace

struct Process::Shared {
  Calls calls;
  const int spins = SpinsOfThisHost();

  Mutex mutex;
  CondVar changed;
  Status failure WEFT_GUARDED_BY(mutex);
  std::deque<std::shared_ptr<Request>> requests WEFT_GUARDED_BY(mutex);
  bool stopping WEFT_GUARDED_BY(mutex) = false;
  bool woken WEFT_GUARDED_BY(mutex) = false;
  std::atomic<bool> news = false;  // requests, a failure or the end: look under the mutex

  // Held while the thread polls, so that Detach waits for the end of a round, but not for a task.
  Mutex polling;
  std::vector<Poller*> pollers WEFT_GUARDED_BY(polling);

  void Fail(const Status& reason) {
    MutexLock lock(mutex);
    if (failure.ok()) failure = reason;
    news = true;
    changed.NotifyAll();
  }
  Status Failure() {
    MutexLock lock(mutex);
    return failure;
  }
  // False at the end of the thread.
  bool Serve();
  Poller::Result PollAll();
  void EndAll(const Status& reason);
  void WaitForNews();
};

// ---------------------------------------------------------------- the thread

bool Process::Shared::Serve() {
  if (!news.exchange(false)) return true;
  for (;;) {
    std::shared_ptr<Request> request;
    Status failed;
    {
      MutexLock lock(mutex);
      if (requests.empty()) return !stopping;
      request = std::move(requests.front());
      requests.pop_front();
      failed = failure;
    }
    const Status status = failed.ok() ? request->task(calls) : failed;
    MutexLock lock(mutex);
    request->status = status;
    request->done = true;
    changed.NotifyAll();
  }
}

Poller::Result Process::Shared::PollAll() {
  MutexLock lock(polling);
  auto all = Poller::Result::kIdle;
  for (Poller* poller : pollers) {
    const StatusOr<Poller::Result> one = poller->Poll();
    if (!one.ok()) {
      Fail(one.status());
      return Poller::Result::kMoved;
    }
    all = std::max(all, *one);
  }
  return all;
}

void Process::Shared::EndAll(const Status& reason) {
  MutexLock lock(polling);
  for (Poller* poller : pollers) poller->TellPeers(reason);
  const TimePoint give_up = Clock::now() + kTellingPeers;
  for (bool told = false; !told && Clock::now() < give_up; sched_yield()) {
    told = true;
    for (Poller* poller : pollers) told &= poller->PeersAreTold();
  }
  for (Poller* poller : pollers) poller->EndAll(reason);
}

void Process::Shared::WaitForNews() {
  MutexLock lock(mutex);
  const TimePoint until = Clock::now() + kIdlePeriod;
  while (!woken && !news && Clock::now() < until) changed.WaitUntil(mutex, until);
  woken = false;
}

void Process::ThreadMain(const std::shared_ptr<Shared>& shared) {
  Backoff backoff(shared->spins);
  while (shared->Serve()) {
    const Status failure = shared->Failure();
    if (!failure.ok()) {
      shared->EndAll(failure);
      shared->WaitForNews();
      continue;
    }
    const Poller::Result result = shared->PollAll();
    if (result == Poller::Result::kMoved) {
      backoff.Reset();
    } else if (result == Poller::Result::kWaits) {
      backoff.Pause();
    } else {
      backoff.Reset();
      shared->WaitForNews();
    }
  }
}

// ---------------------------------------------------------------- from any thread

StatusOr<std::shared_ptr<Process>> Process::Start(int size, Duration timeout) {
  WEFT_RETURN_IF_ERROR(CheckLauncher(size));
  auto shared = std::make_shared<Shared>();
  WEFT_ASSIGN_OR_RETURN(shared->calls, Calls::Load());
  std::shared_ptr<Process> process(new Process(shared));
  std::thread([shared] { ThreadMain(shared); }).detach();
  WEFT_RETURN_IF_ERROR(
      process->Call("MPI_Init", Clock::now() + timeout,
                    [size](const Calls& calls) { return Initialize(calls, size); }));
  return process;
}

Process::~Process() {
  const Status ended =
      failure().ok()
          ? Call("MPI_Finalize", Clock::now() + kFinalize,
                 [](const Calls& calls) { return calls.From(calls.finalize(), "MPI_Finalize"); })
          : OkStatus();
  if (!ended.ok()) WEFT_LOG(WARNING) << ended;
  MutexLock lock(shared_->mutex);
  shared_->stopping = true;
  shared_->news = true;
  shared_->changed.NotifyAll();
}

Status Process::Call(const std::string& what, TimePoint deadline, Task task) {
  const TimePoint begin = Clock::now();
  auto request = std::make_shared<Request>();
  request->task = std::move(task);
  MutexLock lock(shared_->mutex);
  if (!shared_->failure.ok()) return shared_->failure;
  shared_->requests.push_back(request);
  shared_->news = true;
  shared_->changed.NotifyAll();
  while (!request->done && Clock::now() < deadline)
    shared_->changed.WaitUntil(shared_->mutex, deadline);
  const Status status = request->done
                            ? request->status
                            : DeadlineExceeded(what + ": not done after " +
                                               HumanSeconds(ToSeconds(Clock::now() - begin)) +
                                               "; a rank of the launcher has not come");
  if (!status.ok() && shared_->failure.ok()) shared_->failure = status;
  shared_->news = true;
  return status;
}

void Process::Attach(Poller* poller) {
  MutexLock lock(shared_->polling);
  shared_->pollers.push_back(poller);
}

void Process::Detach(Poller* poller) {
  MutexLock lock(shared_->polling);
  std::erase(shared_->pollers, poller);
}

void Process::Wake() {
  MutexLock lock(shared_->mutex);
  if (std::exchange(shared_->woken, true)) return;
  shared_->changed.NotifyAll();
}

void Process::Fail(const Status& reason) { shared_->Fail(reason); }

Status Process::failure() const { return shared_->Failure(); }

const Calls& Process::calls() const { return shared_->calls; }

}  // namespace weft::mpi
