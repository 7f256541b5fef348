#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "cli/selftest/stage_support.h"
#include "cluster/base/file_system.h"

namespace weft {
namespace {

StatusOr<std::vector<SelftestRow>> Checks(const SelftestOptions& options) {
  std::vector<std::string> args = {"selftest", "checks",     "--device", SelftestDevice(options),
                                   "--json",   "checks.json"};
  struct Model {
    std::string recipe;
    std::vector<std::string> overrides;
  };
  std::vector<Model> models = {
      {"clip/tiny", {}},
      {"roberta/tiny", {}},
      {"llava/tiny_stage2", {}},
      {"llava/tiny_stage2", {"name=llava-tiny-packed", "data.conversation.pack=true"}}};
  if (options.quick) models.resize(1);
  for (const Model& model : models) {
    WEFT_ASSIGN_OR_RETURN(args.emplace_back(),
                          WriteSelftestRecipe(options, model.recipe, model.overrides));
  }
  const Status run = RunSelftestProgram(options, "checks", "weft-worker", args);
  const StatusOr<nlohmann::json> report = ReadSelftestJson(options, "checks.json");
  if (!report.ok()) return run.ok() ? report.status() : run;
  std::vector<SelftestRow> rows;
  for (const nlohmann::json& check : (*report)["checks"]) {
    const bool ok = check["ok"];
    rows.push_back(
        {"checks", check["name"], ok ? SelftestOutcome::kOk : SelftestOutcome::kFailed,
         FormatNumber("%.2e", check["error"].is_number() ? check["error"].get<double>() : 0) +
             FormatNumber(" (limit %.0e)", check["limit"])});
  }
  for (const nlohmann::json& peak : (*report)["peaks"]) {
    rows.push_back({"peaks", peak["name"], SelftestOutcome::kOk,
                    FormatNumber("%.4g ", peak["value"]) + peak["unit"].get<std::string>()});
  }
  return rows;
}

}  // namespace

std::vector<SelftestRow> RunCheckStage(const SelftestOptions& options) {
  const StatusOr<std::vector<SelftestRow>> rows = Checks(options);
  if (!rows.ok()) return {FailedRow("checks", "kernels and models", rows.status())};
  return *rows;
}

}  // namespace weft
