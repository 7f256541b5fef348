#include "dataloader/data_plan.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace weft {
namespace {

// A chunk in one epoch.
using Visit = std::tuple<int, uint64_t, uint64_t>;  // set, epoch, chunk

struct Stay {
  int64_t first_step = 0;
  int64_t last_step = 0;
  uint64_t bytes = 0;
};

NodePlan Summarize(const std::map<Visit, Stay>& stays, int64_t samples, int64_t steps) {
  NodePlan plan;
  plan.samples = samples;
  std::vector<int64_t> change(static_cast<size_t>(steps) + 1);
  for (const auto& [visit, stay] : stays) {
    ++plan.reads;
    plan.bytes += stay.bytes;
    change[static_cast<size_t>(stay.first_step)] += static_cast<int64_t>(stay.bytes);
    change[static_cast<size_t>(stay.last_step) + 1] -= static_cast<int64_t>(stay.bytes);
  }
  int64_t resident = 0;
  for (const int64_t bytes : change) {
    resident += bytes;
    plan.peak_cache = std::max(plan.peak_cache, static_cast<uint64_t>(resident));
  }
  return plan;
}

}  // namespace

StatusOr<DataPlan> PlanData(const SampleOrder& order, const std::vector<uint64_t>& set_samples,
                            const DataPlanOptions& options, const ChunkOf& chunk_of) {
  if (options.nodes < 1 || options.nodes > options.slots) {
    return InvalidArgument("--nodes must be from 1 to batch.slots (" +
                           std::to_string(options.slots) + ")");
  }
  DataPlan plan;
  std::vector<uint64_t> used(set_samples.size());
  uint64_t sample_bytes = 0;
  uint64_t fetched = 0;
  for (int64_t node = 0; node < options.nodes; ++node) {
    std::map<Visit, Stay> stays;
    int64_t samples = 0;
    for (int64_t step = 0; step < options.steps; ++step) {
      for (int64_t slot = node * options.slots / options.nodes;
           slot < (node + 1) * options.slots / options.nodes; ++slot) {
        for (const SampleRef& ref : order.Rows(step, slot)) {
          uint64_t bytes = 0;
          WEFT_ASSIGN_OR_RETURN(const PlannedChunk chunk, chunk_of(ref, &bytes));
          sample_bytes += bytes;
          ++used[static_cast<size_t>(ref.set)];
          ++samples;
          const auto [stay, is_new] =
              stays.try_emplace({ref.set, ref.epoch, chunk.id}, Stay{step, step, chunk.bytes});
          stay->second.last_step = step;
        }
      }
    }
    plan.nodes.push_back(Summarize(stays, samples, options.steps));
    fetched += plan.nodes.back().bytes;
  }
  for (size_t set = 0; set < set_samples.size(); ++set)
    plan.epochs.push_back(static_cast<double>(used[set]) / static_cast<double>(set_samples[set]));
  plan.amplification =
      sample_bytes == 0 ? 0 : static_cast<double>(fetched) / static_cast<double>(sample_bytes);
  return plan;
}

}  // namespace weft
