// The double's streams and events, and what they know of each other.
//
// A stream has a thread of its own that does its work in order, each piece a little later than it could: what was not waited
// for is not done. Beside that every stream, event and the host keep vector clocks (how far of each stream they have waited
// for), by which CheckAccess finds two uses of the same bytes that nothing orders, on every run and not only on unlucky ones.
//
// Host threads count as one: what one thread has waited for, all know. What a thread has only seen to be done (cudaEventQuery,
// cudaStreamQuery) it alone knows: a thread that looks after others' work must not hide that they forgot to wait.
// Thread rule: any thread may call anything.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cluster/base/mutex.h"

namespace weft::testing {

// How far of each stream, by number.
using StreamClock = std::map<int, uint64_t>;

struct Access {
  const void* data = nullptr;
  size_t bytes = 0;
  bool writes = false;
};

// A piece of work on a stream.
struct StreamWork {
  std::string what;
  std::vector<Access> accesses;
  // On the stream's thread; may block.
  std::function<void()> run;
};

// Puts it behind what is on the stream; notes a breach for each access that another stream's work may collide with. Returns
// the work's place on the stream.
uint64_t Enqueue(cudaStream_t stream, StreamWork work);
// The same for what the host does itself, now. False: it breaks the contract, and had better not be done.
bool CheckHostAccess(const std::string& what, const Access& access);
// The accesses at this place of the stream are over, whether anybody waited or not (the operation was aborted).
void ForgetAccesses(int stream, uint64_t place);

// NCCL has been asked for a launch on this stream and has not made it: whatever is put on the stream meanwhile stands before it.
void BeginLaunch(cudaStream_t stream);
void EndLaunch(cudaStream_t stream);

}  // namespace weft::testing

struct CUstream_st {
  int number = 0;
  int device = 0;
  // The runtime's mutex guards these.
  weft::testing::StreamClock clock;
  int launches = 0;

  weft::Mutex mutex;
  weft::CondVar changed;
  std::deque<std::function<void()>> queue WEFT_GUARDED_BY(mutex);
  bool busy WEFT_GUARDED_BY(mutex) = false;
  bool closing WEFT_GUARDED_BY(mutex) = false;
  std::thread thread;
};

struct CUevent_st {
  struct Recording {
    weft::Mutex mutex;
    weft::CondVar changed;
    bool done WEFT_GUARDED_BY(mutex) = false;
    weft::testing::StreamClock clock;
  };
  int device = 0;
  // The last one; null: none yet, which counts as done.
  std::shared_ptr<Recording> recording;
};
