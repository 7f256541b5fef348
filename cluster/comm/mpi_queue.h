// What is under way in one communicator on MPI: the collectives one after the other, sends and receives in a lane to each peer
// and one from each, as communicator.h orders them.
//
// A collective opens with a frame from each rank to each other that says which operation it is in. Only when all have come, and
// agree, is MPI asked to do it. So ranks that disagree say so instead of hanging, a verdict names the rank that is missing, and
// what is pending at a deadline is a frame, not half a collective. The same frames carry the news of a failure. It costs one
// small message to each rank; a barrier is nothing else.
//
// Errors: as exchange.h's, and MPI's. Thread rule: Submit, DeadlinePassed and CurrentOperation from any thread; the rest is
// MPI's thread (mpi_process.h).
#pragma once

#include <atomic>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cluster/base/mutex.h"
#include "cluster/comm/flight_recorder.h"
#include "cluster/comm/mpi_collectives.h"
#include "cluster/comm/mpi_process.h"
#include "cluster/comm/operation.h"
#include "cluster/comm/under_way.h"

namespace weft::mpi {

// What a rank says of the operation that it is in, or of its failure.
struct Frame {
  static constexpr uint32_t kMagic = 0x57465431;
  enum Type : uint8_t { kAnnounce, kFailure };

  uint32_t magic = kMagic;
  Type type = kAnnounce;
  uint8_t kind = 0;
  uint8_t dtype = 0;
  uint8_t reduce_op = 0;
  int32_t root = -1;
  uint32_t text_bytes = 0;
  uint64_t sequence = 0;
  uint64_t bytes = 0;
  char text[480] = {};  // the operation's name, or the reason

  void SetText(const std::string& value);
  std::string Text() const { return {text, text_bytes}; }
  // What goes over the wire.
  size_t size() const { return offsetof(Frame, text) + text_bytes; }
  // Of two announcements: whether they are the same operation.
  bool Agrees(const Frame& other) const;
  // "all_reduce loss #2 (16 bytes of float32)"
  std::string Describe() const;
};

struct QueuedOperation {
  std::shared_ptr<OpState> state;
  // A collective: what this rank announces, and what MPI then does. Else a message.
  std::optional<Frame> frame;
  Steps steps;
  Message message;
};

class Queue : public Poller {
 public:
  struct Members {
    int rank = 0;
    int size = 1;
    std::vector<int> world_ranks;
    // "rank 3", by its number in the world.
    std::string Name(int member) const;
  };

  Queue(std::shared_ptr<Process> process, MPI_Comm comm, Members members, FlightRecorder* recorder);
  // Posts the first receive of a frame; then it may be attached.
  Status Open();
  // Takes the receive back, on the thread, so that MPI can finalize.
  Status Close();

  void Submit(QueuedOperation operation);
  void DeadlinePassed(const OpState& state, Duration timeout);
  std::string CurrentOperation() const;
  const Members& members() const { return members_; }
  // EndAll has run.
  bool ended() const { return ended_; }

  StatusOr<Result> Poll() override;
  void TellPeers(const Status& reason) override;
  bool PeersAreTold() override;
  void EndAll(const Status& reason) override;

 private:
  struct Lane {
    std::deque<QueuedOperation> queue;
    std::optional<Requests> head;  // of queue.front()
  };
  // Lives until it is sent.
  struct Outgoing {
    Frame frame;
    Requests requests;
  };

  Status PostReceive();
  Status SendToAll(const Frame& frame);
  StatusOr<bool> ReceiveFrames();
  Status TakeFrame(int peer);
  StatusOr<bool> DropSentFrames();
  void TakeNew();
  StatusOr<bool> AdvanceLanes();
  StatusOr<bool> AdvanceLane(Lane* lane);
  StatusOr<bool> AdvanceCollective();
  // Whether all ranks have announced the collective.
  StatusOr<bool> AllAgree();
  void NoteMissing(const std::vector<int>& missing);

  void Begin(const std::shared_ptr<OpState>& state, std::string waiting_for);
  void End(OpState& state, const Status& status);

  const std::shared_ptr<Process> process_;
  const MPI_Comm comm_;
  const Members members_;
  FlightRecorder* const recorder_;

  // The thread's.
  // Not freed where MPI may still write to it.
  std::unique_ptr<Frame> incoming_;
  MPI_Request receive_ = nullptr;
  std::vector<std::deque<Frame>> announced_;  // by peer
  std::list<Outgoing> outgoing_;
  std::vector<Lane> lanes_;  // to peer p: 2p, from it: 2p + 1
  size_t busy_lanes_ = 0;
  std::optional<QueuedOperation> collective_;
  std::optional<Requests> running_;  // of the collective, once all agree
  bool announced_own_ = false;
  size_t num_missing_ = 0;
  bool told_ = false;
  std::atomic<bool> ended_ = false;

  std::atomic<bool> arrived_ = false;
  mutable Mutex mutex_;
  std::deque<QueuedOperation> queue_ WEFT_GUARDED_BY(mutex_);
  std::vector<UnderWay> under_way_ WEFT_GUARDED_BY(mutex_);
};

}  // namespace weft::mpi
