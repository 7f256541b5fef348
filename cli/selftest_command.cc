#include "cli/selftest_command.h"

#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/flags.h"
#include "cli/selftest/selftest.h"
#include "cluster/base/clock.h"
#include "cluster/base/file_system.h"
#include "cluster/base/text.h"

namespace weft {
namespace {

constexpr int kExitNoDevice = 3;

struct SelftestFlags {
  bool quick = false;
  std::string work_dir;
  std::string json = "build/reports/selftest.json";
};

FlagParser MakeParser(SelftestFlags* values) {
  FlagParser flags(
      "weft selftest", "gpu|cpu [flags]",
      "Whether this build trains as it should on this machine's GPUs, or on its CPU: kernels and "
      "models against\nthe CPU in fp64, layouts with ranks as processes against one process, a "
      "CLIP "
      "from pictures to recall,\nsteps of large models with their share of the measured matmul "
      "peak. "
      "Ends with one table. Exit codes:\n0 all well, 1 something failed, 2 wrong use, 3 no CUDA "
      "device.");
  flags.Positional(1, 1);
  flags.Bool("quick", &values->quick, "less of everything: a minute or so");
  flags.String("work-dir", &values->work_dir,
               "where data, runs and logs go; default: a folder for temporary files, removed if "
               "all is well");
  flags.String("json", &values->json, "where the table goes as JSON; empty: nowhere");
  flags.Example("weft selftest gpu");
  flags.Example("weft selftest cpu --quick");
  return flags;
}

// recipes/ beside the programs' folder (a bundle), or above it (a build).
StatusOr<std::string> FindRecipes(const std::string& bin_dir) {
  std::string folder = bin_dir;
  for (int up = 0; up < 4; ++up) {
    const std::string recipes = JoinPath(folder, "recipes");
    if (PosixFileSystem()->Exists(JoinPath(recipes, "clip/tiny.textproto"))) return recipes;
    folder = ParentPath(folder);
  }
  return NotFound("no recipes/ beside or above " + bin_dir);
}

StatusOr<SelftestOptions> MakeOptions(const SelftestFlags& flags) {
  SelftestOptions options;
  options.quick = flags.quick;
  std::error_code error;
  options.bin_dir = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  WEFT_ASSIGN_OR_RETURN(options.recipe_dir, FindRecipes(options.bin_dir));
  if (flags.work_dir.empty()) {
    std::string name = std::filesystem::temp_directory_path(error) / "weft-selftest-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr)
      return Internal(name + " cannot be created; name a --work-dir");
    options.work_dir = name;
  } else {
    WEFT_RETURN_IF_ERROR(PosixFileSystem()->MakeDirs(flags.work_dir));
    options.work_dir = std::filesystem::absolute(flags.work_dir, error);
  }
  return options;
}

void PrintTable(const std::vector<SelftestRow>& rows) {
  size_t width = 0;
  for (const SelftestRow& row : rows) width = std::max(width, row.name.size());
  std::printf("\n%-8s %-*s %-8s %s\n", "stage", static_cast<int>(width), "what", "", "figure");
  for (const SelftestRow& row : rows) {
    std::printf("%-8s %-*s %-8s %s\n", row.stage.c_str(), static_cast<int>(width), row.name.c_str(),
                SelftestOutcomeName(row.outcome), row.text.c_str());
  }
}

int64_t Count(const std::vector<SelftestRow>& rows, SelftestOutcome outcome) {
  return std::count_if(rows.begin(), rows.end(),
                       [outcome](const SelftestRow& row) { return row.outcome == outcome; });
}

Status WriteJson(const std::string& path, const std::string& device,
                 const std::vector<SelftestRow>& rows) {
  nlohmann::ordered_json json = {{"device", device}, {"rows", nlohmann::ordered_json::array()}};
  for (const SelftestRow& row : rows) {
    json["rows"].push_back({{"stage", row.stage},
                            {"what", row.name},
                            {"outcome", SelftestOutcomeName(row.outcome)},
                            {"figure", row.text}});
  }
  WEFT_RETURN_IF_ERROR(PosixFileSystem()->MakeDirs(ParentPath(path)));
  return WriteFileDurably(PosixFileSystem(), path, json.dump(1) + "\n");
}

std::vector<SelftestRow> RunStages(const SelftestOptions& options) {
  struct Stage {
    const char* what;
    std::vector<SelftestRow> (*run)(const SelftestOptions&);
  };
  constexpr Stage kStages[] = {{"kernels and models against the CPU in fp64", RunCheckStage},
                               {"layouts against one process", RunParityStage},
                               {"a CLIP from pictures to recall", RunDemoStage},
                               {"steps of large models", RunBenchStage}};
  std::vector<SelftestRow> rows;
  for (const Stage& stage : kStages) {
    std::printf("selftest: %s ...", stage.what);
    std::fflush(stdout);
    const TimePoint start = Clock::now();
    for (SelftestRow& row : stage.run(options)) rows.push_back(std::move(row));
    std::printf(" %s\n", HumanSeconds(ToSeconds(Clock::now() - start)).c_str());
  }
  return rows;
}

}  // namespace

int SelftestCommand(const std::vector<std::string>& args) {
  SelftestFlags flags;
  const ParsedFlags parsed = MakeParser(&flags).Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  const std::string kind = parsed.positional[0];
  if (kind != "gpu" && kind != "cpu") {
    return ReportError(
        "weft selftest",
        InvalidArgument("name what is tested: `weft selftest gpu` or `weft selftest cpu`"));
  }
  StatusOr<SelftestOptions> options = MakeOptions(flags);
  if (!options.ok()) return ReportError("weft selftest", options.status());
  std::string device = "CPU";
  if (kind == "gpu") {
    const StatusOr<std::vector<GpuOfSelftest>> gpus = ListSelftestGpus(*options);
    if (!gpus.ok()) return ReportError("weft selftest", gpus.status());
    if (gpus->empty()) {
      std::fprintf(stderr,
                   "weft selftest: no CUDA device (nvidia-smi shows them; the build must be one of "
                   "the cuda preset); "
                   "`weft selftest cpu` tests the CPU\n");
      return kExitNoDevice;
    }
    options->gpus = static_cast<int>(gpus->size());
    device = std::to_string(gpus->size()) + " x " + gpus->front().name + " (" +
             HumanBytes(static_cast<double>(gpus->front().memory_bytes)) + ")";
  }
  std::printf("selftest on %s; logs in %s\n", device.c_str(), options->work_dir.c_str());
  const std::vector<SelftestRow> rows = RunStages(*options);
  PrintTable(rows);
  const int64_t failed = Count(rows, SelftestOutcome::kFailed);
  std::printf("%lld ok, %lld failed, %lld skipped\n",
              static_cast<long long>(Count(rows, SelftestOutcome::kOk)),
              static_cast<long long>(failed),
              static_cast<long long>(Count(rows, SelftestOutcome::kSkipped)));
  std::error_code ignored;
  if (failed == 0 && flags.work_dir.empty())
    std::filesystem::remove_all(options->work_dir, ignored);
  if (!flags.json.empty()) {
    const Status written = WriteJson(flags.json, device, rows);
    if (!written.ok()) return ReportError("weft selftest", written);
  }
  return failed == 0 ? 0 : 1;
}

}  // namespace weft
