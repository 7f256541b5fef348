// The stages of `weft selftest`: each runs programs of this build, as a person would, and gives rows for the table.
//
// Thread rule: one thread.
#pragma once

#include <string>
#include <vector>

#include "cluster/base/status.h"

namespace weft {

enum class SelftestOutcome { kOk, kFailed, kSkipped };
const char* SelftestOutcomeName(SelftestOutcome outcome);

struct SelftestRow {
  std::string stage;
  std::string name;
  SelftestOutcome outcome = SelftestOutcome::kOk;
  // The figure and what it means, or why it was skipped, or where to read on.
  std::string text;
};

struct SelftestOptions {
  // On GPUs: how many there are. 0: on the CPU.
  int gpus = 0;
  // Less of everything: seconds instead of minutes.
  bool quick = false;
  // An empty folder for data, runs and logs.
  std::string work_dir;
  // Folders of weft's programs and of its recipes.
  std::string bin_dir;
  std::string recipe_dir;
};

struct GpuOfSelftest {
  std::string name;
  int64_t memory_bytes = 0;
};

// As the worker sees them.
StatusOr<std::vector<GpuOfSelftest>> ListSelftestGpus(const SelftestOptions& options);

// Kernels and models against the CPU; peaks.
std::vector<SelftestRow> RunCheckStage(const SelftestOptions& options);
// Layouts with ranks as processes against one process: over tcp, and over NCCL where there are GPUs for it.
std::vector<SelftestRow> RunParityStage(const SelftestOptions& options);
// A CLIP from pictures to recall.
std::vector<SelftestRow> RunDemoStage(const SelftestOptions& options);
// Steps of large models: throughput and MFU.
std::vector<SelftestRow> RunBenchStage(const SelftestOptions& options);

}  // namespace weft
