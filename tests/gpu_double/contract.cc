#include "tests/gpu_double/contract.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "cluster/base/mutex.h"

namespace weft::testing {
namespace {

// Of the process: the libraries that are doubled have such state, too.
struct Breaches {
  Mutex mutex;
  std::vector<std::string> texts WEFT_GUARDED_BY(mutex);
  bool abort WEFT_GUARDED_BY(mutex) = false;
};

Breaches& All() {
  static Breaches breaches;
  return breaches;
}

class Listener : public ::testing::EmptyTestEventListener {
 public:
  void OnTestEnd(const ::testing::TestInfo&) override {
    for (const std::string& breach : TakeBreaches()) ADD_FAILURE() << "broken contract: " << breach;
  }
};

}  // namespace

void NoteBreach(const std::string& what) {
  std::fprintf(stderr, "broken contract: %s\n", what.c_str());
  MutexLock lock(All().mutex);
  if (All().abort) std::abort();
  All().texts.push_back(what);
}

void AbortOnBreaches() {
  MutexLock lock(All().mutex);
  All().abort = true;
}

std::vector<std::string> TakeBreaches() {
  MutexLock lock(All().mutex);
  return std::exchange(All().texts, {});
}

bool FailTestsOnBreaches() {
  ::testing::UnitTest::GetInstance()->listeners().Append(new Listener);
  return true;
}

}  // namespace weft::testing
