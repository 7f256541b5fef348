// MPI in this process: one thread makes every call to it, from MPI_Init to MPI_Finalize (so MPI_THREAD_FUNNELED is enough), and
// moves on what is under way in all communicators. Whoever waits for the thread waits with a deadline, so that an MPI call that
// never returns (MPI_Init while a rank is missing) holds nobody: the thread is left behind then, and the process should end.
//
// MPI cannot lose a rank, so there is one failure for the process: the first. The thread then tells all peers, ends all
// operations, and never calls MPI again: what is still posted must not find buffers that are gone. Nor can MPI start twice:
// the next generation wants new processes, from a new mpirun.
//
// Errors: InvalidArgument (not started by mpirun, another number of ranks, no OpenMPI: restarting cannot help),
// FailedPrecondition (MPI was used before), DeadlineExceeded.
// Thread rule: any thread may call Process; Poller's methods run on the thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cluster/base/clock.h"
#include "cluster/base/status.h"
#include "cluster/comm/mpi_calls.h"

namespace weft::mpi {

// A communicator, as the thread sees it.
class Poller {
 public:
  enum class Result { kIdle, kWaits, kMoved };

  virtual ~Poller() = default;
  // Starts and tests what it can; never blocks. An error is the process's failure.
  virtual StatusOr<Result> Poll() = 0;
  // After the failure, in this order: posts the news to all peers; tests whether it has gone; ends all operations.
  virtual void TellPeers(const Status& reason) = 0;
  virtual bool PeersAreTold() = 0;
  virtual void EndAll(const Status& reason) = 0;
};

class Process {
 public:
  // `size`: the ranks that mpirun must have started.
  static StatusOr<std::shared_ptr<Process>> Start(int size, Duration timeout);
  // Finalizes, unless MPI has failed; waits for the other ranks for a few seconds at most.
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // Runs `task` on the thread; at the deadline MPI has failed, with `what` in the reason.
  using Task = std::function<Status(const Calls&)>;
  Status Call(const std::string& what, TimePoint deadline, Task task);
  // Not before `poller` is whole; it lives until Detach has returned, after which the thread does not touch it.
  void Attach(Poller* poller);
  void Detach(Poller* poller);
  // Something new is there to be polled.
  void Wake();

  // The first reason stays.
  void Fail(const Status& reason);
  Status failure() const;
  // REQUIRES: Start has returned.
  const Calls& calls() const;

 private:
  struct Shared;
  explicit Process(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
  static void ThreadMain(const std::shared_ptr<Shared>& shared);

  // The thread has it too: it may outlive this object.
  const std::shared_ptr<Shared> shared_;
};

}  // namespace weft::mpi
