#include "dataloader/balance.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "cluster/base/logging.h"

namespace weft {
namespace {

// Groups whose work per slot is within this of the mean exchange nothing.
constexpr double kEvenEnough = 0.003;

using Costs = std::span<const int64_t>;

// Some rows, heaviest first, and what they cost together.
struct Bin {
  std::vector<int32_t> rows;
  int64_t sum = 0;
};

bool Heavier(Costs costs, int32_t a, int32_t b) {
  const int64_t cost_a = costs[static_cast<size_t>(a)];
  const int64_t cost_b = costs[static_cast<size_t>(b)];
  return cost_a != cost_b ? cost_a > cost_b : a < b;
}

void Sort(Costs costs, std::vector<int32_t>* rows) {
  std::sort(rows->begin(), rows->end(),
            [costs](int32_t a, int32_t b) { return Heavier(costs, a, b); });
}

// Swaps the pair of rows that takes nearest to `excess` from `heavy` to `light`; false if none leaves both below what
// `heavy` is now. REQUIRES: excess is at most half of what moving may cost, i.e. any transfer in (0, 2 excess) helps.
bool SwapNearest(Costs costs, int64_t excess, Bin* heavy, Bin* light) {
  size_t best_heavy = 0;
  size_t best_light = 0;
  int64_t best_miss = excess;
  size_t j = 0;
  // Both run from heavy to light: the partner of a lighter row is lighter.
  for (size_t i = 0; i < heavy->rows.size(); ++i) {
    const int64_t cost = costs[static_cast<size_t>(heavy->rows[i])];
    const auto miss = [&](size_t k) {
      return std::abs(cost - costs[static_cast<size_t>(light->rows[k])] - excess);
    };
    while (j + 1 < light->rows.size() && miss(j + 1) <= miss(j)) ++j;
    if (miss(j) >= best_miss) continue;
    best_miss = miss(j);
    best_heavy = i;
    best_light = j;
  }
  if (best_miss >= excess) return false;
  const int64_t moved = costs[static_cast<size_t>(heavy->rows[best_heavy])] -
                        costs[static_cast<size_t>(light->rows[best_light])];
  std::swap(heavy->rows[best_heavy], light->rows[best_light]);
  heavy->sum -= moved;
  light->sum += moved;
  Sort(costs, &heavy->rows);
  Sort(costs, &light->rows);
  return true;
}

// Deals `rows`, heaviest first, into bins of `capacity` each.
std::vector<Bin> DealIntoBins(Costs costs, const std::vector<int32_t>& rows, size_t bins,
                              size_t capacity) {
  std::vector<Bin> dealt(bins);
  for (const int32_t row : rows) {
    Bin* lightest = nullptr;
    for (Bin& bin : dealt) {
      if (bin.rows.size() < capacity && (lightest == nullptr || bin.sum < lightest->sum))
        lightest = &bin;
    }
    lightest->rows.push_back(row);
    lightest->sum += costs[static_cast<size_t>(row)];
  }
  const auto by_sum = [](const Bin& a, const Bin& b) { return a.sum < b.sum; };
  for (size_t i = 0; i < 4 * bins; ++i) {
    const auto [light, heavy] = std::minmax_element(dealt.begin(), dealt.end(), by_sum);
    if (!SwapNearest(costs, (heavy->sum - light->sum) / 2, &*heavy, &*light)) break;
  }
  return dealt;
}

// Swaps rows of the groups with the most and the least work per slot, `swaps` times at most.
void EvenOut(Costs costs, const std::vector<int64_t>& slots_of, int64_t swaps,
             std::vector<Bin>* groups) {
  int64_t total = 0;
  for (const Bin& group : *groups) total += group.sum;
  const int64_t slots = std::accumulate(slots_of.begin(), slots_of.end(), int64_t{0});
  const auto mean = [&](size_t g) {
    return static_cast<double>((*groups)[g].sum) / static_cast<double>(slots_of[g]);
  };
  const double overall = static_cast<double>(total) / static_cast<double>(slots);
  for (int64_t i = 0; i < swaps; ++i) {
    size_t heavy = 0;
    size_t light = 0;
    for (size_t g = 1; g < groups->size(); ++g) {
      if (mean(g) > mean(heavy)) heavy = g;
      if (mean(g) < mean(light)) light = g;
    }
    if (mean(heavy) <= overall * (1 + kEvenEnough)) return;
    const auto heavy_slots = static_cast<double>(slots_of[heavy]);
    const auto light_slots = static_cast<double>(slots_of[light]);
    const double excess =
        (mean(heavy) - mean(light)) * heavy_slots * light_slots / (heavy_slots + light_slots);
    if (!SwapNearest(costs, static_cast<int64_t>(excess), &(*groups)[heavy], &(*groups)[light]))
      return;
  }
}

}  // namespace

int64_t RowCost(int64_t length, int64_t pairs, double attention) {
  return std::max<int64_t>(
      1, std::llround(static_cast<double>(length) + attention * static_cast<double>(pairs)));
}

std::vector<int32_t> BalanceRows(const BalanceOptions& options, Costs costs) {
  const auto slots = static_cast<size_t>(options.slots);
  const size_t per_slot = costs.size() / slots;
  std::vector<int32_t> dealt(costs.size());
  std::iota(dealt.begin(), dealt.end(), 0);
  if (options.group < 1) return dealt;
  WEFT_CHECK_EQ(costs.size() % (slots * static_cast<size_t>(options.micro_batches)), 0u);
  const auto group = static_cast<size_t>(options.group);
  std::vector<Bin> groups;
  std::vector<int64_t> slots_of;
  for (size_t first = 0; first < slots; first += group) {
    const size_t end = std::min(first + group, slots);
    slots_of.push_back(static_cast<int64_t>(end - first));
    Bin bin;
    for (size_t row = first * per_slot; row < end * per_slot; ++row) {
      bin.rows.push_back(static_cast<int32_t>(row));
      bin.sum += costs[row];
    }
    Sort(costs, &bin.rows);
    groups.push_back(std::move(bin));
  }
  // A swap moves two samples.
  const auto swaps =
      static_cast<int64_t>(options.moved * static_cast<double>(costs.size()) / 2 + 1e-9);
  EvenOut(costs, slots_of, swaps, &groups);
  const auto micro_batches = static_cast<size_t>(options.micro_batches);
  auto out = dealt.begin();
  for (size_t g = 0; g < groups.size(); ++g) {
    for (const Bin& slot :
         DealIntoBins(costs, groups[g].rows, static_cast<size_t>(slots_of[g]), per_slot)) {
      for (Bin& micro_batch :
           DealIntoBins(costs, slot.rows, micro_batches, per_slot / micro_batches)) {
        std::sort(micro_batch.rows.begin(), micro_batch.rows.end());
        out = std::copy(micro_batch.rows.begin(), micro_batch.rows.end(), out);
      }
    }
  }
  return dealt;
}

}  // namespace weft
