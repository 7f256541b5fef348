#include "worker/bench/bench_main.h"

#include <ATen/Parallel.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "cluster/base/file_system.h"
#include "cluster/base/logging.h"
#include "parallel/memory.h"
#include "parallel/memory/metered_allocator.h"
#include "worker/bench/comm_main.h"
#include "worker/bench/step_bench.h"

namespace weft {
namespace {

constexpr int kTimelineWidth = 72;

std::string Describe(const StepBenchOptions& options) {
  const Layout& layout = options.recipe.layout();
  const BatchRecipe& batch = options.recipe.batch();
  std::string text = "dp " + std::to_string(layout.dp()) + " x tp " + std::to_string(layout.tp()) +
                     " x pp " + std::to_string(layout.pp()) + ", " +
                     PipelineSchedule_Name(layout.schedule()) + ", ZeRO " +
                     std::to_string(layout.zero_stage()) + "; " + std::to_string(batch.slots()) +
                     " slots x " + std::to_string(batch.micro_batches()) + " micro-batches x " +
                     std::to_string(batch.micro_batch_size()) + " samples; ";
  if (!options.simulated) return text + options.recipe.name();
  char costs[96];
  std::snprintf(costs, sizeof(costs),
                "%d simulated blocks of %.3g ms forward, %.3g + %.3g backward",
                options.simulated->blocks, 1e3 * options.simulated->seconds,
                1e3 * options.simulated->seconds, 1e3 * options.simulated->seconds);
  return text + costs;
}

// Of the time that operations over dp took, the part that nobody waited for.
double Overlap(const StepBenchReport& report) {
  if (report.dp_seconds <= 0) return 1;
  return std::max(0.0, 1 - report.dp_waited / report.dp_seconds);
}

void PrintReport(const StepBenchOptions& options, const StepBenchReport& report) {
  std::printf("%s\n", Describe(options).c_str());
  std::printf("step        %8.1f ms, %.1f samples/s\n", 1e3 * report.step_seconds,
              report.samples / report.step_seconds);
  if (!options.simulated) {
    std::printf("model       %8.3g TFLOP/s; MFU %.1f %% of what matrix products reach here\n",
                report.flops_per_second / 1e12, 100 * report.mfu);
  }
  std::printf("bubble      %8.1f %% of the pipeline's time; ideal with equal stages %.1f %%\n",
              100 * report.bubble, 100 * report.ideal_bubble);
  if (report.dp_seconds > 0) {
    std::printf("over dp     %8.1f ms a rank, %.1f ms of them waited for: %.0f %% overlapped\n",
                1e3 * report.dp_seconds, 1e3 * report.dp_waited, 100 * Overlap(report));
  }
  for (const auto& [name, seconds] : report.waits)
    std::printf("  waited    %8.1f ms  %s\n", 1e3 * seconds, name.c_str());
  if (!options.simulated)
    std::printf("memory of the largest rank:\n%s", report.memory.Table().c_str());
  std::printf("%s", DrawTimeline(report.timeline, kTimelineWidth).c_str());
}

Status WriteJson(const std::string& path, const StepBenchOptions& options,
                 const StepBenchReport& report) {
  nlohmann::json json = {{"layout", Describe(options)},
                         {"simulated", options.simulated.has_value()},
                         {"step_s", report.step_seconds},
                         {"samples_per_s", report.samples / report.step_seconds},
                         {"bubble", report.bubble},
                         {"ideal_bubble", report.ideal_bubble},
                         {"dp_s", report.dp_seconds},
                         {"dp_waited_s", report.dp_waited},
                         {"overlap", Overlap(report)},
                         {"waits_s", report.waits},
                         {"flops_per_s", report.flops_per_second},
                         {"mfu", report.mfu}};
  for (size_t c = 0; c < kNumMemoryCategories; ++c) {
    const auto category = static_cast<MemoryCategory>(c);
    json["peak_bytes"][MemoryCategoryName(category)] = report.memory.Of(category).peak;
  }
  json["peak_bytes"]["total"] = report.memory.total.peak;
  WEFT_RETURN_IF_ERROR(PosixFileSystem()->MakeDirs(ParentPath(path)));
  std::ofstream file(path);
  file << json.dump(1) << "\n";
  return file.flush() ? OkStatus() : Internal(path + ": cannot be written; name another --json");
}

Status ParseOptions(int argc, char** argv, StepBenchOptions* options, std::string* json) {
  SimulatedCosts costs;
  bool simulate = false;
  std::ifstream file(argv[1], std::ios::binary);
  if (!options->recipe.ParseFromIstream(&file)) return InvalidArgument("no recipe in that file");
  for (int i = 2; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    if (flag == "--steps") {
      options->steps = std::atoi(argv[i + 1]);
    } else if (flag == "--simulate") {
      simulate = true;
      costs.seconds = 1e-3 * std::atof(argv[i + 1]);
    } else if (flag == "--blocks") {
      costs.blocks = std::atoi(argv[i + 1]);
    } else if (flag == "--device") {
      options->device = argv[i + 1] == std::string("cpu") ? -1 : std::atoi(argv[i + 1]);
    } else if (flag == "--json") {
      *json = argv[i + 1];
    } else {
      return InvalidArgument("unknown flag " + flag);
    }
  }
  if (simulate) options->simulated = costs;
  return OkStatus();
}

}  // namespace

int BenchMain(int argc, char** argv) {
  if (argc > 0 && std::strcmp(argv[0], "comm") == 0) return CommBenchMain(argc - 1, argv + 1);
  if (argc < 2 || std::strcmp(argv[0], "step") != 0) {
    std::fprintf(stderr, "weft-worker bench is started by `weft bench`; see `weft bench --help`\n");
    return 2;
  }
  KeepFreedMemory();
  InstallMeteredAllocator();
  StepBenchOptions options;
  std::string json;
  Status status = ParseOptions(argc, argv, &options, &json);
  if (status.ok()) {
    at::set_num_threads(options.recipe.threads_per_rank());
    StatusOr<StepBenchReport> report = BenchStep(options);
    status = report.status();
    if (status.ok()) {
      PrintReport(options, *report);
      if (!json.empty()) status = WriteJson(json, options, *report);
    }
  }
  if (!status.ok()) std::fprintf(stderr, "weft bench: %s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}

}  // namespace weft
