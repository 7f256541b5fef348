// The suite of what communicator.h promises, over every backend: conformance_test.cc and conformance_failure_test.cc.
#pragma once

#include <gtest/gtest.h>

#include "tests/comm/backends.h"
#include "tests/comm/collective_checks.h"

namespace weft::testing {

template <typename Backend>
class ConformanceTest : public ::testing::Test {
 protected:
  static Status Run(int ranks) {
    return Backend::Run(
        ranks, [](Communicator& comm) { return CheckEverything(comm, Backend::kRankOrder); });
  }
};

TYPED_TEST_SUITE(ConformanceTest, AllBackends, BackendNames);

}  // namespace weft::testing
