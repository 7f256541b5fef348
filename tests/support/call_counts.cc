#include "tests/support/call_counts.h"

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <new>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define WEFT_COUNTS 0
#else
#define WEFT_COUNTS 1
#endif

namespace {

std::atomic<bool> counting = false;
std::atomic<int64_t> allocations = 0;
std::atomic<int64_t> locks = 0;

}  // namespace

#if WEFT_COUNTS
static void Count(std::atomic<int64_t>* calls) {
  if (counting.load(std::memory_order_relaxed)) calls->fetch_add(1, std::memory_order_relaxed);
}

// Not inlined: GCC would see malloc and free there, and call them mismatched.
#define WEFT_NOT_INLINED __attribute__((noinline))
WEFT_NOT_INLINED void* operator new(size_t size) {
  Count(&allocations);
  if (void* p = std::malloc(size)) return p;
  throw std::bad_alloc();
}
WEFT_NOT_INLINED void operator delete(void* p) noexcept { std::free(p); }
WEFT_NOT_INLINED void operator delete(void* p, size_t) noexcept { std::free(p); }

extern "C" int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  using Lock = int (*)(pthread_mutex_t*);
  static const auto kNext = reinterpret_cast<Lock>(::dlsym(RTLD_NEXT, "pthread_mutex_lock"));
  Count(&locks);
  return kNext(mutex);
}
#endif

namespace weft::testing {

bool CanCountCalls() { return WEFT_COUNTS != 0; }

void StartCountingCalls() {
  allocations = 0;
  locks = 0;
  counting = true;
}

CallCounts StopCountingCalls() {
  counting = false;
  return {allocations, locks};
}

}  // namespace weft::testing
