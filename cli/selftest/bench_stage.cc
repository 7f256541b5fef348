#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "cli/selftest/stage_support.h"
#include "cluster/base/file_system.h"

namespace weft {
namespace {

struct BenchModel {
  const char* title;
  const char* recipe;
  std::vector<std::string> overrides;
  // Tried in turn, until one fits into memory.
  std::vector<std::vector<std::string>> sizes;
};

std::vector<BenchModel> BenchModels(const SelftestOptions& options) {
  const std::vector<std::string> batch = {"batch.slots=1", "batch.micro_batches=2", "layout.dp=1"};
  if (options.gpus == 0) {
    return {{"clip/tiny", "clip/tiny", {"batch.slots=1", "layout.dp=1"}, {{}}}};
  }
  const auto clip = [](int layers, int batch_size) -> std::vector<std::string> {
    return {"model.clip.vision_layers=" + std::to_string(layers),
            "model.clip.text_layers=" + std::to_string(layers / 2),
            "batch.micro_batch_size=" + std::to_string(batch_size)};
  };
  const auto llava = [](int layers) -> std::vector<std::string> {
    return {"model.llava.layers=" + std::to_string(layers), "batch.micro_batch_size=2",
            "layout.zero_stage=1", "layout.recompute=RECOMPUTE_OFF"};
  };
  return {{"CLIP ViT-L/14",
           "clip/vit_l14",
           batch,
           {clip(24, 64), clip(24, 32), clip(12, 16), clip(6, 8)}},
          {"LLaVA-7B blocks", "llava/stage2_7b", batch, {llava(8), llava(4), llava(2), llava(1)}}};
}

StatusOr<SelftestRow> BenchOne(const SelftestOptions& options, const BenchModel& model) {
  Status status;
  for (const std::vector<std::string>& size : model.sizes) {
    std::vector<std::string> overrides = model.overrides;
    overrides.insert(overrides.end(), size.begin(), size.end());
    WEFT_ASSIGN_OR_RETURN(const std::string recipe,
                          WriteSelftestRecipe(options, model.recipe, overrides));
    status = RunSelftestProgram(options, "bench", "weft-worker",
                                {"bench", "step", recipe, "--steps", options.quick ? "2" : "10",
                                 "--device", SelftestDevice(options), "--json", "bench.json"});
    if (!status.ok()) continue;
    WEFT_ASSIGN_OR_RETURN(const nlohmann::json figures, ReadSelftestJson(options, "bench.json"));
    std::string layers;
    for (const std::string& value : size) layers += (layers.empty() ? "" : ", ") + value;
    return SelftestRow{
        "bench", model.title, SelftestOutcome::kOk,
        FormatNumber("%.1f samples/s, ", figures["samples_per_s"]) +
            FormatNumber("%.3g TFLOP/s, ", figures["flops_per_s"].get<double>() / 1e12) +
            FormatNumber("MFU %.1f %% of the measured matmul", 100 * figures["mfu"].get<double>()) +
            (layers.empty() ? "" : " (" + layers + ")")};
  }
  return status;
}

}  // namespace

std::vector<SelftestRow> RunBenchStage(const SelftestOptions& options) {
  std::vector<SelftestRow> rows;
  for (const BenchModel& model : BenchModels(options)) {
    const StatusOr<SelftestRow> row = BenchOne(options, model);
    rows.push_back(row.ok() ? *row : FailedRow("bench", model.title, row.status()));
  }
  return rows;
}

}  // namespace weft
