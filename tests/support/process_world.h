// Ranks as real processes over the tcp backend, for tests that kill and stop them.
//
// Each rank is the test binary, executed anew (not forked: threads of OpenMP or LibTorch do not survive a fork) with a filter
// for the current test: it runs the test up to the same call of Run, runs the body as its rank, reports and exits. So
//   * what stands before Run in the test runs in every rank, too; keep it cheap and deterministic;
//   * in a rank, an earlier Run of the same test does nothing and returns OK results without values;
//   * what stands after Run runs in the test only.
// Works with any gtest main. What a rank prints is caught and shown only with a failure.
//
//   TEST(X, SumOfRanks) {
//     ProcessWorld world({.size = 4});
//     const auto results = world.Run([](RankProcess& self) -> StatusOr<std::string> { ... self.comm ... });
//     ASSERT_TRUE(FirstFailure(results).ok()) << FirstFailure(results);
//   }
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cluster/base/clock.h"
#include "cluster/base/status.h"
#include "cluster/comm/communicator.h"
#include "tests/support/sanitizers.h"

namespace weft::testing {

// A rank's view of itself.
class RankProcess {
 public:
  RankProcess(Communicator& communicator, int control_fd)
      : comm(communicator), control_fd_(control_fd) {}

  Communicator& comm;
  // Tells the test something (at most 64 KiB): its on_note is called.
  void Note(const std::string& text);

 private:
  const int control_fd_;
};

struct RankResult {
  // What the body returned; else how the process ended. A failed EXPECT in the body is Internal.
  Status status;
  // What the body returned (at most 64 KiB).
  std::string value;
  // The signal that ended the process; 0: none.
  int signal = 0;
  // When the process was gone.
  TimePoint ended;
  // What it printed.
  std::string output;
};

// The first rank whose status is not OK, with its number and output.
Status FirstFailure(const std::vector<RankResult>& results);

class ProcessWorld {
 public:
  struct Options {
    int size = 2;
    // For everything; ranks that still run then are killed (DeadlineExceeded).
    Duration timeout = std::chrono::seconds(60 * kTimeScale);
    bool shared_memory = true;
  };
  using Body = std::function<StatusOr<std::string>(RankProcess&)>;
  using OnNote = std::function<void(ProcessWorld&, int rank, const std::string& note)>;

  explicit ProcessWorld(const Options& options);
  ~ProcessWorld();
  ProcessWorld(const ProcessWorld&) = delete;
  ProcessWorld& operator=(const ProcessWorld&) = delete;

  // REQUIRES: called from a test's body, at most once a world.
  std::vector<RankResult> Run(const Body& body, const OnNote& on_note = {});

  // For on_note: SIGKILL, SIGSTOP, ...; a rank that has ended is left alone.
  void Signal(int rank, int signal);

 private:
  struct Child;

  Status Spawn();
  void Serve(const OnNote& on_note);
  void HandleMessage(int rank, const std::string& message, const OnNote& on_note);
  void Reap(int rank);
  void KillAll();

  const Options options_;
  int call_ = 0;  // the number of this Run in the test
  std::vector<Child> children_;
};

}  // namespace weft::testing
