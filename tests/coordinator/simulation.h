// Membership and ledger as one machine, under a seeded storm: workers die, fail and hang, agents vanish, come back and fall
// silent, the coordinator is killed with its unsynced writes, disks fail, messages arrive late or from the dead. One
// thread, stepped time, no sleeping: a seed is a test case.
//
// What must hold at every moment:
//   * tokens rise and are never used twice; one generation is active at most;
//   * a checkpoint is committed by ranks of the active token only;
//   * what was announced as committed is there after any crash, and loads to the last element;
//   * when the storm is over, the run ends: complete, or given up after its crash loop.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "cluster/base/clock.h"
#include "coordinator/checkpoint_committer.h"
#include "coordinator/failure_detector.h"
#include "coordinator/journal.h"
#include "coordinator/membership.h"
#include "tests/support/fault_injecting_file_system.h"

namespace weft::testing {

struct SimWorker {
  Token token;
  int rank = 0;
  bool started = false;
  bool frozen = false;  // SIGSTOP: alive, says nothing
  bool saving = false;
  bool finished = false;
  bool stop = false;
  int64_t step = 0;
  TimePoint next{};
};

struct SimAgent {
  int id = -1;  // the coordinator's name for it; -1: not connected
  bool silent = false;
  bool dead = false;
  int capacity = 2;
  TimePoint back_at{};
  std::map<int, SimWorker> workers;  // by rank
};

class Simulation {
 public:
  explicit Simulation(uint64_t seed);

  // Until the run is over, or an expectation has failed.
  void Run();

  int num_generations() const { return static_cast<int>(tokens_.size()); }
  int num_commits() const { return static_cast<int>(announced_.size()); }
  int num_coordinators() const { return num_coordinators_; }
  int exit_code() const { return exit_code_; }

 private:
  static constexpr int kWorldSize = 3;
  static constexpr int64_t kSteps = 100;
  static constexpr int64_t kSaveEvery = 5;
  static constexpr double kTick = 0.05;
  static constexpr double kStorm = 60;      // seconds in which faults happen
  static constexpr double kPatience = 400;  // and by when the run must be over

  int Pick(int n) { return static_cast<int>(random_() % static_cast<uint64_t>(n)); }
  // Whether what happens so often happens in this tick.
  bool Chance(double per_second);
  // An event that reaches the coordinator after a random time; lost if the coordinator dies before.
  void Send(std::function<void()> event);
  void Deliver();

  // ---- the coordinator (simulated_coordinator.cc)

  void StartCoordinator();
  // The announced commits are there, and all that is committed loads.
  void CheckDisk();
  void Tick();
  // False: do not look at the rest of the decision.
  bool Perform(const std::vector<MembershipAction>& actions);
  bool Activate();
  SimAgent* FindAgent(int id);
  void Spawn(const MembershipAction& action);
  void Start();
  void Kill(int id, Token token);
  void Handle(const std::vector<LedgerMessage>& messages);
  SimWorker* FindWorker(Token token, int rank);
  void WriteShard(const SendGrant& grant);
  void Outcome(const SendOutcome& outcome);

  // ---- the machines (simulated_machines.cc)

  void MoveAgents();
  void MoveWorkers();
  void MoveWorker(SimWorker* worker, bool all_there);
  void RequestSave(SimWorker* worker);

  // ---- what goes wrong (simulated_storm.cc)

  void Storm();
  SimWorker* AnyWorker(SimAgent** owner);
  void KillWorker();
  void FailWorker();
  void FreezeWorker();
  void LoseAgent();
  void KillCoordinator();

  std::mt19937_64 random_;
  FaultInjectingFileSystem fs_;
  TimePoint begin_ = TimePoint() + FromSeconds(1000);
  TimePoint now_ = begin_;
  std::multimap<TimePoint, std::function<void()>> mail_;
  std::vector<SimAgent> agents_;

  MembershipOptions options_;
  FailureDetectorOptions detector_options_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<CheckpointCommitter> committer_;
  MembershipState state_;
  FailureDetector detector_{FailureDetectorOptions{}};
  std::optional<Token> active_;
  std::set<Token> tokens_;
  std::vector<CheckpointName> announced_;
  int num_coordinators_ = 0;
  bool over_ = false;
  int exit_code_ = -1;
  std::string exit_reason_;
};

}  // namespace weft::testing
