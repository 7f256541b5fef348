#include "dataloader/data_plan.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>

namespace weft {
namespace {

// A chunk in one epoch.
using Visit = std::tuple<int, uint64_t, uint64_t>;  // set, epoch, chunk

struct Stay {
  int64_t first_step = 0;
  int64_t last_step = 0;
  uint64_t bytes = 0;
};

using Stays = std::map<Visit, Stay>;

NodePlan Summarize(const Stays& stays, int64_t samples, int64_t steps) {
  NodePlan plan;
  plan.samples = samples;
  std::vector<int64_t> change(static_cast<size_t>(steps) + 1);
  std::set<std::pair<int, uint64_t>> chunks;
  for (const auto& [visit, stay] : stays) {
    ++plan.reads;
    plan.bytes += stay.bytes;
    const auto& [set, epoch, chunk] = visit;
    if (chunks.emplace(set, chunk).second) plan.chunk_bytes += stay.bytes;
    change[static_cast<size_t>(stay.first_step)] += static_cast<int64_t>(stay.bytes);
    change[static_cast<size_t>(stay.last_step) + 1] -= static_cast<int64_t>(stay.bytes);
  }
  plan.chunks = chunks.size();
  int64_t resident = 0;
  for (const int64_t bytes : change) {
    resident += bytes;
    plan.peak_cache = std::max(plan.peak_cache, static_cast<uint64_t>(resident));
  }
  return plan;
}

}  // namespace

StatusOr<DataPlan> PlanData(const RowsOf& rows_of, const std::vector<uint64_t>& set_samples,
                            const DataPlanOptions& options, const ChunkOf& chunk_of) {
  if (options.nodes < 1 || options.nodes > options.slots) {
    return InvalidArgument("--nodes must be from 1 to batch.slots (" +
                           std::to_string(options.slots) + ")");
  }
  DataPlan plan;
  std::vector<uint64_t> used(set_samples.size());
  uint64_t sample_bytes = 0;
  std::vector<Stays> stays(static_cast<size_t>(options.nodes));
  std::vector<int64_t> samples(stays.size());
  // Step after step, as deals are kept for some steps only.
  for (int64_t step = 0; step < options.steps; ++step) {
    for (int64_t slot = 0; slot < options.slots; ++slot) {
      // The node whose slots [n slots / nodes, (n + 1) slots / nodes) it is among.
      const auto node =
          static_cast<size_t>(((slot + 1) * options.nodes + options.slots - 1) / options.slots - 1);
      WEFT_ASSIGN_OR_RETURN(const std::vector<SampleRef> rows, rows_of(step, slot));
      samples[node] += static_cast<int64_t>(rows.size());
      for (const SampleRef& ref : rows) {
        uint64_t bytes = 0;
        WEFT_ASSIGN_OR_RETURN(const PlannedChunk chunk, chunk_of(ref, &bytes));
        sample_bytes += bytes;
        ++used[static_cast<size_t>(ref.set)];
        const auto [stay, is_new] =
            stays[node].try_emplace({ref.set, ref.epoch, chunk.id}, Stay{step, step, chunk.bytes});
        stay->second.last_step = step;
      }
    }
  }
  uint64_t fetched = 0;
  for (size_t node = 0; node < stays.size(); ++node) {
    plan.nodes.push_back(Summarize(stays[node], samples[node], options.steps));
    fetched += plan.nodes.back().bytes;
  }
  for (size_t set = 0; set < set_samples.size(); ++set)
    plan.epochs.push_back(static_cast<double>(used[set]) / static_cast<double>(set_samples[set]));
  plan.amplification =
      sample_bytes == 0 ? 0 : static_cast<double>(fetched) / static_cast<double>(sample_bytes);
  return plan;
}

StatusOr<DataPlan> PlanData(const SampleOrder& order, const std::vector<uint64_t>& set_samples,
                            const DataPlanOptions& options, const ChunkOf& chunk_of) {
  return PlanData(
      [&order](int64_t step, int64_t slot) -> StatusOr<std::vector<SampleRef>> {
        return order.Rows(step, slot);
      },
      set_samples, options, chunk_of);
}

}  // namespace weft
