#include "worker/selftest/selftest_main.h"

#include <ATen/Parallel.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "cluster/comm/gpus.h"
#include "cluster/config/recipe.pb.h"
#include "parallel/memory.h"
#include "worker/bench/peaks.h"
#include "worker/selftest/kernel_checks.h"
#include "worker/selftest/model_checks.h"

namespace weft {
namespace {

using Json = nlohmann::ordered_json;

int ListDevices() {
  Json list = Json::array();
  for (const GpuInfo& gpu : ListGpus())
    list.push_back({{"name", gpu.name}, {"uuid", gpu.uuid}, {"memory_bytes", gpu.memory_bytes}});
  std::printf("%s\n", list.dump().c_str());
  return 0;
}

struct Arguments {
  std::string device = "cpu";
  std::string json;
  std::vector<std::string> recipes;
};

StatusOr<Arguments> Parse(const std::vector<std::string>& args) {
  Arguments parsed;
  for (size_t i = 1; i < args.size(); ++i) {
    if ((args[i] == "--device" || args[i] == "--json") && i + 1 < args.size()) {
      (args[i] == "--device" ? parsed.device : parsed.json) = args[i + 1];
      ++i;
    } else {
      parsed.recipes.push_back(args[i]);
    }
  }
  return parsed;
}

StatusOr<ComputeDevice> OpenDevice(const std::string& name) {
  if (name == "cpu") return ComputeDevice();
  return ComputeDevice::Open(std::atoi(name.c_str()));
}

void Print(const SelfCheck& check) {
  std::printf("  %-44s %9.2e  limit %7.1e  %s\n", check.name.c_str(), check.error, check.limit,
              check.ok() ? "ok" : "FAILED");
  std::fflush(stdout);
}

Status RunChecks(const Arguments& args, bool* all_ok) {
  WEFT_ASSIGN_OR_RETURN(const ComputeDevice device, OpenDevice(args.device));
  Json report = {{"device", device.Name()}, {"checks", Json::array()}, {"peaks", Json::array()}};
  *all_ok = true;
  const auto add = [&](const std::vector<SelfCheck>& checks) {
    for (const SelfCheck& check : checks) {
      Print(check);
      *all_ok = *all_ok && check.ok();
      report["checks"].push_back({{"name", check.name},
                                  {"what", check.what},
                                  {"error", check.error},
                                  {"limit", check.limit},
                                  {"ok", check.ok()}});
    }
  };
  add(CheckKernels(device));
  for (const std::string& path : args.recipes) {
    Recipe recipe;
    std::ifstream file(path, std::ios::binary);
    if (!recipe.ParseFromIstream(&file)) return InvalidArgument(path + ": no recipe");
    at::set_num_threads(recipe.threads_per_rank());
    WEFT_ASSIGN_OR_RETURN(const std::vector<SelfCheck> checks, CheckModel(recipe, device));
    add(checks);
  }
  for (const Peak& peak : MeasurePeaks(device)) {
    std::printf("  %-44s %9.4g %s\n", peak.name.c_str(), peak.value, peak.unit.c_str());
    report["peaks"].push_back({{"name", peak.name}, {"value", peak.value}, {"unit", peak.unit}});
  }
  if (args.json.empty()) return OkStatus();
  std::ofstream file(args.json);
  file << report.dump(1) << "\n";
  return file.flush() ? OkStatus() : Internal(args.json + " cannot be written");
}

}  // namespace

int SelftestMain(int argc, char** argv) {
  const std::vector<std::string> args(argv, argv + argc);
  if (!args.empty() && args[0] == "devices") return ListDevices();
  if (args.empty() || args[0] != "checks") {
    std::fprintf(
        stderr, "weft-worker selftest is started by `weft selftest`; see `weft selftest --help`\n");
    return 2;
  }
  KeepFreedMemory();
  bool all_ok = false;
  StatusOr<Arguments> parsed = Parse(args);
  Status status = parsed.status();
  try {
    if (status.ok()) status = RunChecks(*parsed, &all_ok);
  } catch (const std::exception& error) {
    status = Internal(error.what());
  }
  if (!status.ok()) std::fprintf(stderr, "weft selftest: %s\n", status.message().c_str());
  return status.ok() && all_ok ? 0 : 1;
}

}  // namespace weft
