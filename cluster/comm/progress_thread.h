// The queue of a communicator and the one thread that executes it; also its failure.
//
// Messages go into their lanes (lanes.h) as they come; a collective waits until all messages before it are done, and what comes
// behind it waits for the collective. The thread never blocks but in one poll() over its pipe and the sockets; after a few
// hundred looks without progress it sleeps, so more ranks than cores are fine.
//
// Errors: the first failure stays, is told to the peers, and ends all that is pending and all that comes later.
// Thread rule: any thread may call anything but Run, which is for the bodies of collectives.
#pragma once

#include <poll.h>

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cluster/base/clock.h"
#include "cluster/base/mutex.h"
#include "cluster/base/status.h"
#include "cluster/comm/doorbell.h"
#include "cluster/comm/exchange.h"
#include "cluster/comm/flight_recorder.h"
#include "cluster/comm/lanes.h"
#include "cluster/comm/members.h"
#include "cluster/comm/operation.h"
#include "cluster/comm/under_way.h"

namespace weft {

class ProgressThread {
 public:
  // `members` and `recorder` (may be null) must outlive it. `spins`: looks without progress before it sleeps.
  ProgressThread(const Members& members, std::unique_ptr<Sleeper> sleeper, FlightRecorder* recorder,
                 int spins);
  // Ends what is pending with Cancelled.
  ~ProgressThread();

  void Submit(Operation operation);
  // Advances one round of a collective until it is done or the communicator has failed.
  Status Run(Exchange& exchange);

  void Fail(const Status& reason) { Fail(reason, -1); }
  Status failure() const;
  // "all_reduce grads #5, waiting for rank 1"; several are joined by "; ".
  std::string CurrentOperation() const;
  // The operation's Wait has come to its deadline: fails everything.
  void DeadlinePassed(const OpState& state, Duration timeout);

 private:
  using PeerIsNeeded = std::function<bool(int peer)>;

  // `lost_rank`: in the world; -1: none.
  void Fail(const Status& reason, int lost_rank);
  void FailLocked(const Status& reason, int lost_rank) WEFT_REQUIRES(mutex_);

  // On the thread.
  void ThreadMain();
  void TakeNew();
  void ExecuteCollective();
  void StepLanes();
  void SleepOnLanes();
  void NoteLanes();
  void Begin(const std::shared_ptr<OpState>& state);
  void End(OpState& state, const Status& status);
  // After a failure: tells the peers, once, and ends all that is pending.
  void AfterFailure();
  // False: there is something to do. Else Submit will wake the thread if it can use what comes.
  bool MayDoze();
  Status SleepUntilNews(Exchange& exchange);
  // Fails with the first link that is lost, or that was closed in order while it is needed.
  void NoteLostLinks(const PeerIsNeeded& needed);
  void PollOnce();

  const Members& members_;
  const std::unique_ptr<Sleeper> sleeper_;
  FlightRecorder* const recorder_;
  const int spins_;

  // The thread's own.
  Lanes lanes_;
  std::optional<Operation> collective_;  // waits for the lanes to be empty
  int looks_ = 0;
  std::vector<pollfd> poll_fds_;
  std::vector<Link*> polled_links_;
  bool told_peers_ = false;

  std::atomic<bool> failed_ = false;   // failure_ is set
  std::atomic<bool> arrived_ = false;  // the queue may hold something
  mutable Mutex mutex_;
  std::deque<Operation> queue_ WEFT_GUARDED_BY(mutex_);
  int outstanding_ WEFT_GUARDED_BY(mutex_) = 0;  // submitted and not ended
  bool dozing_ WEFT_GUARDED_BY(mutex_) = false;
  bool stopping_ WEFT_GUARDED_BY(mutex_) = false;
  Status failure_ WEFT_GUARDED_BY(mutex_);
  int lost_rank_ WEFT_GUARDED_BY(mutex_) = -1;
  std::vector<UnderWay> under_way_ WEFT_GUARDED_BY(mutex_);

  std::thread thread_;  // last: starts when all of the above is there
};

}  // namespace weft
