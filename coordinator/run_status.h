// A run at one moment, for `weft status` and whoever else asks: as a value, and as JSON.
//
// Thread rule: values, pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace weft {

struct MemberStatus {
  int rank = 0;
  std::string host;
  int64_t pid = 0;
  std::string phase;
  int64_t step = 0;
  std::string operation;
  double stood_still_s = 0;
};

struct CheckpointStatus {
  int64_t step = 0;
  std::string manifest;
  uint64_t bytes = 0;
  double age_s = 0;
};

struct RecoveryStatus {
  std::string verdict;
  int64_t from_step = 0;
  double seconds = 0;
};

struct RunStatus {
  std::string name;
  std::string run_dir;
  int64_t pid = 0;
  uint64_t epoch = 0;
  uint64_t generation = 0;
  std::string phase;
  std::string reason;
  int64_t step = 0;
  int64_t steps = 0;
  double loss = 0;
  double images_per_s = 0;
  double data_wait = 0, peer_wait = 0, save_wait = 0;  // shares of the time
  std::string data_bottleneck;                         // ThroughputWindow::DataBottleneck
  double eta_s = 0;
  uint64_t stale_frames = 0;
  std::vector<MemberStatus> members;
  std::vector<CheckpointStatus> checkpoints;  // newest first
  std::vector<RecoveryStatus> recoveries;     // oldest first
};

std::string ToJson(const RunStatus& status);
// The same for people. `json` is what ToJson made; "" if it is something else.
std::string StatusTable(const std::string& json);

}  // namespace weft
