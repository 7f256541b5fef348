#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/selftest/stage_support.h"
#include "cluster/base/file_system.h"

namespace weft {
namespace {

constexpr char kStage[] = "parity";

// One row a model: how many layouts agree with one process.
StatusOr<std::vector<SelftestRow>> Parity(const SelftestOptions& options, const std::string& kind) {
  std::vector<std::string> args = {"--kinds",  kind,
                                   "--device", options.gpus > 0 ? "CUDA" : "CPU",
                                   "--json",   "parity-" + kind + ".json"};
  if (options.quick) args.insert(args.end(), {"--models", "clip", "--only", "dp2 tp1 pp2"});
  const Status run = RunSelftestProgram(options, "parity-" + kind, "weft_parity", args);
  const StatusOr<nlohmann::json> report = ReadSelftestJson(options, "parity-" + kind + ".json");
  if (!report.ok()) return run.ok() ? report.status() : run;
  std::vector<SelftestRow> rows;
  int failed = 0;
  double largest = 0;
  for (const nlohmann::json& row : *report) {
    if (!row["ok"].get<bool>()) ++failed;
    if (row["max_rel_err"].is_number())
      largest = std::max(largest, row["max_rel_err"].get<double>());
  }
  rows.push_back({kStage, "layouts over " + kind + ", ranks as processes",
                  failed == 0 && run.ok() ? SelftestOutcome::kOk : SelftestOutcome::kFailed,
                  std::to_string(report->size()) + " runs, " + std::to_string(failed) + " failed" +
                      FormatNumber(", largest error %.1e", largest)});
  return rows;
}

}  // namespace

std::vector<SelftestRow> RunParityStage(const SelftestOptions& options) {
  const auto run = [&options](const std::string& kind) -> std::vector<SelftestRow> {
    const StatusOr<std::vector<SelftestRow>> rows = Parity(options, kind);
    if (!rows.ok()) return {FailedRow(kStage, "layouts over " + kind, rows.status())};
    return *rows;
  };
  std::vector<SelftestRow> rows = run("tcp");
  if (options.gpus > 1) {
    for (SelftestRow& row : run("nccl")) rows.push_back(std::move(row));
  } else if (options.gpus == 1) {
    rows.push_back({kStage, "layouts over nccl", SelftestOutcome::kSkipped,
                    "NCCL needs a GPU for each rank; there is one"});
  }
  return rows;
}

}  // namespace weft
