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

// kRankOrder: sums are taken in rank order. kTellsPeers: ranks that fail, abort or disagree tell each other.
struct LinkedBackend {
  static constexpr bool kRankOrder = true;
  static constexpr bool kTellsPeers = true;
};

struct InProcessThreads : LinkedBackend {
  static constexpr int kMostRanks = 8;
  static Status Run(int size, const RankFn& fn) { return ThreadWorld(size, fn); }
};

struct TcpThreads : LinkedBackend {
  static constexpr int kMostRanks = 8;
  static Status Run(int size, const RankFn& fn);
};

struct TcpThreadsOverSockets : LinkedBackend {
  static constexpr int kMostRanks = 5;
  static Status Run(int size, const RankFn& fn);
};

// At most one Run a test.
struct TcpProcesses : LinkedBackend {
  static constexpr int kMostRanks = 4;
  static Status Run(int size, const RankFn& fn);
};

// The nccl backend on the doubles of NCCL and CUDA (tests/gpu_double), a device a rank.
StatusOr<std::vector<std::unique_ptr<Communicator>>> MakeNcclCommunicators(int size);
// Runs it on a thread a rank; the first failure aborts all, since NCCL tells no peers.
Status RunAbortingAll(std::vector<std::unique_ptr<Communicator>> communicators, const RankFn& fn);

struct NcclBackend {
  static constexpr bool kRankOrder = false;
  static constexpr bool kTellsPeers = false;
};

struct NcclThreads : NcclBackend {
  static constexpr int kMostRanks = 8;
  static Status Run(int size, const RankFn& fn);
};

// At most one Run a test.
struct NcclProcesses : NcclBackend {
  static constexpr int kMostRanks = 4;
  static Status Run(int size, const RankFn& fn);
};

// Device memory, staged through the host over tcp; on the double of CUDA.
struct StagedThreads : LinkedBackend {
  static constexpr int kMostRanks = 4;
  static Status Run(int size, const RankFn& fn);
};

// The mpi backend under mpirun, whose order of the ranks is another than the communicator's. At most one Run a test.
struct MpiProcesses {
  static constexpr bool kRankOrder = true;
  static constexpr bool kTellsPeers = true;
  static constexpr int kMostRanks = 4;
  static Status Run(int size, const RankFn& fn);
};

using AllBackends =
    ::testing::Types<InProcessThreads, TcpThreads, TcpThreadsOverSockets, TcpProcesses,
                     StagedThreads, MpiProcesses, NcclThreads, NcclProcesses>;

struct BackendNames {
  template <typename T>
  static std::string GetName(int) {
    if (std::is_same_v<T, InProcessThreads>) return "InProcess";
    if (std::is_same_v<T, TcpThreads>) return "TcpThreads";
    if (std::is_same_v<T, TcpThreadsOverSockets>) return "TcpOverSockets";
    if (std::is_same_v<T, StagedThreads>) return "StagedTcp";
    if (std::is_same_v<T, MpiProcesses>) return "MpiProcesses";
    if (std::is_same_v<T, NcclThreads>) return "NcclDoubleThreads";
    if (std::is_same_v<T, NcclProcesses>) return "NcclDoubleProcesses";
    return "TcpProcesses";
  }
};

}  // namespace weft::testing
