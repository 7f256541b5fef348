#include "cli/run_plan.h"

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <vector>

#include "models/spec/encoder_layout.h"
#include "models/spec/layout_rules.h"
#include "models/spec/placement.h"
#include "models/spec/tp_slice.h"

namespace weft {
namespace {

// 1234567 -> "1,234,567".
std::string Grouped(int64_t value) {
  std::string digits = std::to_string(value);
  for (auto at = static_cast<int64_t>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<size_t>(at), ",");
  return digits;
}

std::string Counted(int64_t n, const std::string& what) {
  return Grouped(n) + " " + what + (n == 1 ? "" : "s");
}

struct Held {
  int64_t all = 0;
  int64_t trained = 0;
};

// Of one tp rank; the first has the largest slices.
void Add(const std::vector<ParamSpec>& params, int tp, Held* held) {
  for (const ParamSpec& param : params) {
    int64_t n = 1;
    for (const int64_t dim : LocalShape(param, tp, 0)) n *= dim;
    held->all += n;
    held->trained += param.trainable ? n : 0;
  }
}

struct StagePlan {
  int first_block = 0;
  int end_block = 0;
  double cost_share = 0;
  Held held;
};

std::vector<StagePlan> PlanStages(const Layout& layout, const ModelSpec& spec) {
  const std::vector<int> first =
      CutBlocks(spec, layout.pp() * layout.virtual_stages(), layout.placement());
  const std::vector<double> costs = BlockCosts(spec);
  const double total = std::accumulate(costs.begin(), costs.end(), 0.0);
  std::vector<StagePlan> stages;
  for (size_t s = 0; s < first.size(); ++s) {
    StagePlan stage;
    stage.first_block = first[s];
    stage.end_block = s + 1 < first.size() ? first[s + 1] : static_cast<int>(spec.blocks.size());
    for (int b = stage.first_block; b < stage.end_block; ++b) {
      stage.cost_share += total > 0 ? costs[static_cast<size_t>(b)] / total : 0;
      Add(spec.blocks[static_cast<size_t>(b)].params, layout.tp(), &stage.held);
    }
    stages.push_back(stage);
  }
  for (const JoinSpec& join : spec.joins) Add(join.params, layout.tp(), &stages.back().held);
  return stages;
}

std::string StageLine(const ModelSpec& spec, const StagePlan& stage, int index, int pp) {
  const std::string& from = spec.blocks[static_cast<size_t>(stage.first_block)].name;
  const std::string& to = spec.blocks[static_cast<size_t>(stage.end_block) - 1].name;
  char share[32];
  std::snprintf(share, sizeof(share), "%5.1f %%", 100 * stage.cost_share);
  std::string line = "  stage " + std::to_string(index);
  if (pp > 1) line += " (pipeline rank " + std::to_string(index % pp) + ")";
  return line + ": " + share + " of the cost, " + Grouped(stage.held.all) + " parameters a rank; " +
         Counted(stage.end_block - stage.first_block, "block") + ", " +
         (from == to ? from : from + " to " + to) + "\n";
}

std::string BatchLine(const Recipe& recipe) {
  const BatchRecipe& batch = recipe.batch();
  const int dp = recipe.layout().dp();
  const int least = batch.slots() / dp;
  const std::string share =
      std::to_string(least) + (batch.slots() % dp == 0 ? "" : " or " + std::to_string(least + 1));
  return "  samples a step: " +
         Grouped(int64_t{batch.slots()} * batch.micro_batches() * batch.micro_batch_size()) +
         " (slots x micro-batches x samples: " + Grouped(batch.slots()) + " x " +
         Grouped(batch.micro_batches()) + " x " + Grouped(batch.micro_batch_size()) +
         "); slots of a data-parallel rank: " + share + "\n";
}

}  // namespace

std::string DescribeRun(const Recipe& recipe, ModelSpec spec) {
  const Layout& layout = recipe.layout();
  ApplyEncoderLayout(layout, &spec);
  const std::vector<StagePlan> stages = PlanStages(layout, spec);
  std::vector<Held> ranks(static_cast<size_t>(layout.pp()));
  for (size_t s = 0; s < stages.size(); ++s) {
    Held& rank = ranks[s % ranks.size()];
    rank.all += stages[s].held.all;
    rank.trained += stages[s].held.trained;
  }
  const Held most = *std::max_element(ranks.begin(), ranks.end(),
                                      [](const Held& a, const Held& b) { return a.all < b.all; });
  std::string text = "  " + spec.family + ", " + Grouped(spec.NumParameters()) +
                     " parameters, on " +
                     Counted(int64_t{layout.dp()} * layout.tp() * layout.pp(), "rank") + ": " +
                     DegreesText(layout) + ", ZeRO " + std::to_string(layout.zero_stage());
  if (layout.pp() > 1) text += ", " + PipelineSchedule_Name(layout.schedule());
  text += "\n" + BatchLine(recipe);
  for (size_t s = 0; s < stages.size(); ++s)
    text += StageLine(spec, stages[s], static_cast<int>(s), layout.pp());
  text += "  a rank holds at most " + Grouped(most.all) + " parameters, " + Grouped(most.trained) +
          " of them trained\n";
  return text;
}

}  // namespace weft
