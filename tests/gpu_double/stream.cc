#include "tests/gpu_double/stream.h"

#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "tests/gpu_double/contract.h"
#include "tests/gpu_double/device_memory.h"

namespace weft::testing {
namespace {

// How much later than it could a piece of work is done.
constexpr auto kLaziness = std::chrono::microseconds(60);
constexpr auto kLongTime = std::chrono::hours(24);

struct Use {
  int stream;
  uint64_t place;
  Access access;
  std::string what;
};

// Of the process, as CUDA's runtime has it.
struct Runtime {
  Mutex mutex;
  int streams = 0;
  StreamClock host;  // what some thread has waited for
  std::vector<Use> uses;
};

// What this thread has seen done without waiting: others need not know.
thread_local StreamClock seen;

Runtime& TheRuntime() {
  static Runtime runtime;
  return runtime;
}

void Join(StreamClock* clock, const StreamClock& other) {
  for (const auto& [stream, place] : other) {
    uint64_t& mine = (*clock)[stream];
    mine = std::max(mine, place);
  }
}

bool Knows(const StreamClock& clock, const Use& use) {
  const auto found = clock.find(use.stream);
  return found != clock.end() && found->second >= use.place;
}

bool Collide(const Access& a, const Access& b) {
  const auto* from_a = static_cast<const std::byte*>(a.data);
  const auto* from_b = static_cast<const std::byte*>(b.data);
  return (a.writes || b.writes) && a.bytes > 0 && b.bytes > 0 && from_a < from_b + b.bytes &&
         from_b < from_a + a.bytes;
}

bool CheckLocked(Runtime& runtime, const std::string& what, const Access& access,
                 const StreamClock& clock) {
  std::erase_if(runtime.uses, [&](const Use& use) { return Knows(runtime.host, use); });
  for (const Use& use : runtime.uses) {
    if (Knows(clock, use) || Knows(seen, use) || !Collide(access, use.access)) continue;
    NoteBreach(what + (access.writes ? " writes" : " reads") + " bytes that " + use.what +
               " on stream " + std::to_string(use.stream) +
               " may still use: wait for its event first");
    return false;
  }
  return true;
}

void ThreadMain(CUstream_st* stream) {
  for (;;) {
    std::function<void()> work;
    {
      MutexLock lock(stream->mutex);
      while (stream->queue.empty() && !stream->closing)
        stream->changed.WaitUntil(stream->mutex, Clock::now() + kLongTime);
      if (stream->queue.empty()) return;
      work = std::move(stream->queue.front());
      stream->queue.pop_front();
      stream->busy = true;
    }
    work();
    MutexLock lock(stream->mutex);
    stream->busy = false;
    stream->changed.NotifyAll();
  }
}

void Push(CUstream_st* stream, std::function<void()> work) {
  MutexLock lock(stream->mutex);
  stream->queue.push_back(std::move(work));
  stream->changed.NotifyAll();
}

void NoteIfLaunching(const CUstream_st& stream, const std::string& what) {
  if (stream.launches > 0) {
    NoteBreach(what + " was put on stream " + std::to_string(stream.number) +
               " while NCCL's launch there was still in progress: poll ncclCommGetAsyncError "
               "first");
  }
}

}  // namespace

uint64_t Enqueue(cudaStream_t stream, StreamWork work) {
  Runtime& runtime = TheRuntime();
  MutexLock lock(runtime.mutex);
  NoteIfLaunching(*stream, work.what);
  Join(&stream->clock, runtime.host);
  Join(&stream->clock, seen);
  const uint64_t place = ++stream->clock[stream->number];
  for (const Access& access : work.accesses) CheckLocked(runtime, work.what, access, stream->clock);
  for (const Access& access : work.accesses) {
    if (access.bytes > 0) runtime.uses.push_back({stream->number, place, access, work.what});
  }
  Push(stream, [run = std::move(work.run)] {
    std::this_thread::sleep_for(kLaziness);
    run();
  });
  return place;
}

bool CheckHostAccess(const std::string& what, const Access& access) {
  Runtime& runtime = TheRuntime();
  MutexLock lock(runtime.mutex);
  return CheckLocked(runtime, what, access, runtime.host);
}

void ForgetAccesses(int stream, uint64_t place) {
  Runtime& runtime = TheRuntime();
  MutexLock lock(runtime.mutex);
  std::erase_if(runtime.uses,
                [&](const Use& use) { return use.stream == stream && use.place == place; });
}

void BeginLaunch(cudaStream_t stream) {
  Runtime& runtime = TheRuntime();
  MutexLock lock(runtime.mutex);
  ++stream->launches;
}

void EndLaunch(cudaStream_t stream) {
  Runtime& runtime = TheRuntime();
  MutexLock lock(runtime.mutex);
  --stream->launches;
}

}  // namespace weft::testing

// ---------------------------------------------------------------- the C interface

using weft::Clock;
using weft::MutexLock;
using weft::testing::CheckHostAccess;
using weft::testing::TheRuntime;

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int) {
  auto* made = new CUstream_st;
  cudaGetDevice(&made->device);
  {
    MutexLock lock(TheRuntime().mutex);
    made->number = ++TheRuntime().streams;
  }
  made->thread = std::thread(weft::testing::ThreadMain, made);
  *stream = made;
  return cudaSuccess;
}

// Waits for what is on it, which the real one does not; nobody can tell the difference but by a hang.
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  {
    MutexLock lock(stream->mutex);
    stream->closing = true;
    stream->changed.NotifyAll();
  }
  stream->thread.join();
  {
    MutexLock lock(TheRuntime().mutex);
    weft::testing::Join(&TheRuntime().host, stream->clock);
  }
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  {
    MutexLock lock(stream->mutex);
    if (stream->busy || !stream->queue.empty()) return cudaErrorNotReady;
  }
  MutexLock lock(TheRuntime().mutex);
  weft::testing::Join(&weft::testing::seen, stream->clock);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  while (cudaStreamQuery(stream) == cudaErrorNotReady)
    std::this_thread::sleep_for(weft::testing::kLaziness);
  MutexLock lock(TheRuntime().mutex);
  weft::testing::Join(&TheRuntime().host, stream->clock);
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int) {
  MutexLock lock(TheRuntime().mutex);
  if (event->recording == nullptr) return cudaSuccess;
  weft::testing::NoteIfLaunching(*stream, "a wait for an event");
  weft::testing::Join(&stream->clock, event->recording->clock);
  weft::testing::Push(stream, [recording = event->recording] {
    MutexLock wait(recording->mutex);
    while (!recording->done)
      recording->changed.WaitUntil(recording->mutex, Clock::now() + weft::testing::kLongTime);
  });
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  *memory = std::malloc(bytes);
  return *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}

cudaError_t cudaFreeHost(void* memory) {
  CheckHostAccess("cudaFreeHost", {memory, malloc_usable_size(memory), true});
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* user_data) {
  weft::testing::Enqueue(stream, {"a host function", {}, [=] { function(user_data); }});
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int) {
  *event = new CUevent_st;
  cudaGetDevice(&(*event)->device);
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (event->device != stream->device) return cudaErrorInvalidResourceHandle;
  MutexLock lock(TheRuntime().mutex);
  weft::testing::NoteIfLaunching(*stream, "an event");
  weft::testing::Join(&stream->clock, TheRuntime().host);
  weft::testing::Join(&stream->clock, weft::testing::seen);
  event->recording = std::make_shared<CUevent_st::Recording>();
  event->recording->clock = stream->clock;
  weft::testing::Push(stream, [recording = event->recording] {
    MutexLock done(recording->mutex);
    recording->done = true;
    recording->changed.NotifyAll();
  });
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  MutexLock lock(TheRuntime().mutex);
  if (event->recording == nullptr) return cudaSuccess;
  {
    MutexLock done(event->recording->mutex);
    if (!event->recording->done) return cudaErrorNotReady;
  }
  weft::testing::Join(&weft::testing::seen, event->recording->clock);
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  while (cudaEventQuery(event) == cudaErrorNotReady)
    std::this_thread::sleep_for(weft::testing::kLaziness);
  MutexLock lock(TheRuntime().mutex);
  if (event->recording != nullptr) weft::testing::Join(&TheRuntime().host, event->recording->clock);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, enum cudaMemcpyKind) {
  const bool reads = CheckHostAccess("cudaMemcpy", {from, bytes, false});
  const bool writes = CheckHostAccess("cudaMemcpy", {to, bytes, true});
  // A breach is noted; it must not be a data race of the double, too.
  if (!reads || !writes) return cudaSuccess;
  std::memcpy(weft::testing::BytesOf(to), weft::testing::BytesOf(from), bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, enum cudaMemcpyKind,
                            cudaStream_t stream) {
  weft::testing::Enqueue(
      stream, {"cudaMemcpyAsync", {{from, bytes, false}, {to, bytes, true}}, [=] {
                 std::memcpy(weft::testing::BytesOf(to), weft::testing::BytesOf(from), bytes);
               }});
  return cudaSuccess;
}

}  // extern "C"
