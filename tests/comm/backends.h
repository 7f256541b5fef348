// The ways to have ranks, for tests that must hold for all of them.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/comm/communicator.h"
#include "tests/support/process_world.h"
#include "tests/support/thread_world.h"

namespace weft::testing {

// Communicators of one process over tcp, each connected by a thread of its own.
StatusOr<std::vector<std::unique_ptr<Communicator>>> MakeTcpCommunicators(int size,
                                                                          bool shared_memory);

struct InProcessThreads {
  static constexpr int kMostRanks = 8;
  static Status Run(int size, const RankFn& fn) { return ThreadWorld(size, fn); }
};

struct TcpThreads {
  static constexpr int kMostRanks = 8;
  static Status Run(int size, const RankFn& fn);
};

struct TcpThreadsOverSockets {
  static constexpr int kMostRanks = 5;
  static Status Run(int size, const RankFn& fn);
};

// At most one Run a test.
struct TcpProcesses {
  static constexpr int kMostRanks = 4;
  static Status Run(int size, const RankFn& fn);
};

using AllBackends =
    ::testing::Types<InProcessThreads, TcpThreads, TcpThreadsOverSockets, TcpProcesses>;

struct BackendNames {
  template <typename T>
  static std::string GetName(int) {
    if (std::is_same_v<T, InProcessThreads>) return "InProcess";
    if (std::is_same_v<T, TcpThreads>) return "TcpThreads";
    if (std::is_same_v<T, TcpThreadsOverSockets>) return "TcpOverSockets";
    return "TcpProcesses";
  }
};

}  // namespace weft::testing
