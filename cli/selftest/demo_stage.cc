#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "cli/selftest/stage_support.h"
#include "cluster/base/file_system.h"

namespace weft {
namespace {

Status TrainDemo(const SelftestOptions& options) {
  const std::string shards = "build/shapes/train-{000000..000003}.tar";
  WEFT_RETURN_IF_ERROR(RunSelftestProgram(options, "demo-pack", "weft",
                                          {"data", "pack", "shapes", "--out", "build/shapes"}));
  WEFT_RETURN_IF_ERROR(RunSelftestProgram(options, "demo-vocab", "weft",
                                          {"data", "vocab", "--captions-from", shards, "--size",
                                           "560", "--out", "build/shapes/vocab.txt"}));
  std::vector<std::string> train = {"train", JoinPath(options.recipe_dir, "clip/shapes.textproto"),
                                    "--run-dir", "demo-run"};
  const auto set = [&train](const std::string& value) {
    train.insert(train.end(), {"--set", value});
  };
  set(options.gpus > 0 ? "layout.device=CUDA" : "layout.device=CPU");
  if (options.gpus > 0) set("layout.dp=" + std::to_string(std::min(options.gpus, 4)));
  if (options.quick) {
    for (const char* value : {"steps=12", "schedule.warmup_steps=4", "run.checkpoint_every=6"})
      set(value);
  }
  WEFT_RETURN_IF_ERROR(RunSelftestProgram(options, "demo-train", "weft", train));
  return RunSelftestProgram(options, "demo-report", "weft",
                            {"report", "demo-run", "--json", "demo.json"});
}

StatusOr<std::vector<SelftestRow>> Demo(const SelftestOptions& options) {
  WEFT_RETURN_IF_ERROR(TrainDemo(options));
  WEFT_ASSIGN_OR_RETURN(const nlohmann::json figures, ReadSelftestJson(options, "demo.json"));
  const nlohmann::json& times = figures["times_chance_r10"];
  const double least =
      std::min(times["image_to_text"].get<double>(), times["text_to_image"].get<double>());
  // 200 steps reach about 26 on the CPU; twelve only have to have learned something.
  const double wanted = options.quick ? 1.2 : 10;
  return std::vector<SelftestRow>{
      {"demo", "clip on drawn shapes",
       least >= wanted ? SelftestOutcome::kOk : SelftestOutcome::kFailed,
       "recall@10 " + FormatNumber("%.1f times chance", least) +
           FormatNumber(" (at least %.1f)", wanted)}};
}

}  // namespace

std::vector<SelftestRow> RunDemoStage(const SelftestOptions& options) {
  const StatusOr<std::vector<SelftestRow>> rows = Demo(options);
  if (!rows.ok()) return {FailedRow("demo", "clip on drawn shapes", rows.status())};
  return *rows;
}

}  // namespace weft
