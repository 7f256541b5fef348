// Collective operations among the ranks of one mesh axis, on raw pointers. Implementations: tcp
// (processes; sockets, and shared memory between ranks of one host), in_process (threads), mpi
// (processes of one mpirun), nccl (GPU).
//
// Every rank calls the same collectives in the same order with the same names and counts (all
// but nccl check it). A call enqueues and returns a Work; buffers belong to the operation until
// its Wait returns. Collectives of one communicator run one after the other, sums are taken in rank
// order (0 + 1 + 2 + ...), in fp32 for bf16, and are the same bits on every rank.
//
// Sends to a peer are a lane, receives from it another one: in the order of the calls within a lane,
// lanes independent of each other, so that a Recv whose peer is late holds up nothing else. A
// collective starts when all sends and receives called before it on this rank are done; those called
// after it wait for it. (nccl: in the order of the calls on each stream, as NCCL has it.)
//
// Errors (from Wait): Unavailable names the peer that was lost; DeadlineExceeded names the
// operation and the peers waited for; FailedPrecondition says what a peer called instead; the first
// failure stays: every later operation returns it, and the communicator has to be made anew. A rank
// that fails or aborts tells its peers, which then fail too. Thread rule: one thread calls
// operations; Abort may come from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cluster/base/clock.h"
#include "cluster/base/status.h"

namespace weft {

enum class DType { kFloat32, kFloat64, kBFloat16, kInt64, kUInt8 };
size_t DTypeSize(DType dtype);
const char* DTypeName(DType dtype);

enum class ReduceOp { kSum, kMax };

struct OpOptions {
  // What a person reads in an error: "grads.exchange".
  std::string name;
  // How long Wait waits before it fails the communicator; with a stream: how long the operation takes once its turn has come.
  Duration timeout = std::chrono::seconds(120);
  // cudaStream_t of the caller's computation, for buffers on a GPU: the operation runs after what was put on it before the call,
  // Wait makes the stream wait, not the host, and returns the failure so far. Null: the host waits. tcp, in_process: not looked at.
  void* stream = nullptr;
};

// One operation under way.
class Work {
 public:
  virtual ~Work() = default;
  // Blocks until the operation is done, failed or past its deadline (with OpOptions.stream: see there).
  virtual Status Wait() = 0;
  virtual bool Done() = 0;
  virtual const std::string& name() const = 0;
  // 1, 2, 3, ... in the order of the calls; equal on all ranks for the same collective. Sends to a
  // peer and receives from it are counted by themselves: the k-th Send meets the k-th Recv.
  virtual uint64_t sequence() const = 0;
};
using WorkPtr = std::unique_ptr<Work>;

struct SendBuffer {
  const void* data = nullptr;
  size_t bytes = 0;
};
struct RecvBuffer {
  void* data = nullptr;
  size_t bytes = 0;
};

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  // In place; all ranks end with the reduction over ranks.
  virtual WorkPtr AllReduce(void* data, size_t count, DType dtype, ReduceOp op,
                            const OpOptions& options) = 0;
  // recv holds size() * count elements; rank r's are at r * count. send may lie in recv at its own
  // place.
  virtual WorkPtr AllGather(const void* send, void* recv, size_t count, DType dtype,
                            const OpOptions& options) = 0;
  // send holds size() * count elements; recv gets the reduction of the rank's own `count`.
  virtual WorkPtr ReduceScatter(const void* send, void* recv, size_t count, DType dtype,
                                ReduceOp op, const OpOptions& options) = 0;
  virtual WorkPtr Broadcast(void* data, size_t bytes, int root, const OpOptions& options) = 0;
  // Bytes for and from each rank (own part: copied); sizes may differ and be 0, but must match
  // between sender and receiver.
  virtual WorkPtr AllToAll(const std::vector<SendBuffer>& send, const std::vector<RecvBuffer>& recv,
                           const OpOptions& options) = 0;
  virtual WorkPtr Send(const void* data, size_t bytes, int peer, const OpOptions& options) = 0;
  virtual WorkPtr Recv(void* data, size_t bytes, int peer, const OpOptions& options) = 0;
  virtual WorkPtr Barrier(const OpOptions& options) = 0;

  // Ends all pending and later operations with `reason` (the first reason stays).
  virtual void Abort(const Status& reason) = 0;
  // The first failure, or OK.
  virtual Status failure() const = 0;
  // "all_to_all grads.exchange #812, waiting for rank 1": the operation under way, for verdicts on
  // hangs; "" if none.
  virtual std::string CurrentOperation() const = 0;
};

}  // namespace weft
