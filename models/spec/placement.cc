#include "models/spec/placement.h"

#include <algorithm>
#include <limits>
#include <set>
#include <string>

#include "cluster/base/logging.h"

namespace weft {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

bool TrainsParameters(const BlockSpec& block) {
  return std::any_of(block.params.begin(), block.params.end(),
                     [](const ParamSpec& param) { return param.trainable; });
}

// The best cut of the blocks into runs, where `total(best of the blocks before, cost of the last run)` is what to
// minimise. Dynamic programming over (runs, blocks): O(stages * blocks^2). Ties go to the earliest cut.
class Cutter {
 public:
  Cutter(const std::vector<double>& costs, int stages) : stages_(stages), sums_{0} {
    for (const double cost : costs) sums_.push_back(sums_.back() + cost);
  }

  template <typename Total>
  void Minimise(Total total) {
    const size_t n = sums_.size() - 1;
    best_.assign(static_cast<size_t>(stages_) + 1, std::vector<double>(n + 1, kInfinity));
    from_.assign(static_cast<size_t>(stages_) + 1, std::vector<size_t>(n + 1, 0));
    best_[0][0] = 0;
    for (size_t s = 1; s < best_.size(); ++s) {
      for (size_t end = s; end <= n; ++end) {
        for (size_t first = s - 1; first < end; ++first) {
          if (best_[s - 1][first] == kInfinity) continue;
          const double value = total(best_[s - 1][first], sums_[end] - sums_[first]);
          if (value >= best_[s][end]) continue;
          best_[s][end] = value;
          from_[s][end] = first;
        }
      }
    }
  }

  double best() const { return best_.back().back(); }

  std::vector<int> FirstBlocks() const {
    std::vector<int> first_blocks;
    size_t end = sums_.size() - 1;
    for (size_t s = best_.size() - 1; s > 0; --s) {
      end = from_[s][end];
      first_blocks.insert(first_blocks.begin(), static_cast<int>(end));
    }
    return first_blocks;
  }

 private:
  int stages_;
  // Of the first n blocks.
  std::vector<double> sums_;
  // By runs, blocks in them.
  std::vector<std::vector<double>> best_;
  std::vector<std::vector<size_t>> from_;
};

}  // namespace

std::vector<bool> BlocksWithBackward(const ModelSpec& model) {
  std::set<std::string> wants_gradient;
  std::vector<bool> backward;
  for (const BlockSpec& block : model.blocks) {
    bool needs = TrainsParameters(block);
    for (const ActivationSpec& input : block.inputs)
      needs = needs || wants_gradient.count(input.name) > 0;
    for (const ActivationSpec& output : block.outputs) {
      if (needs && output.differentiable) {
        wants_gradient.insert(output.name);
      } else {
        wants_gradient.erase(output.name);
      }
    }
    backward.push_back(needs);
  }
  return backward;
}

std::vector<double> BlockCosts(const ModelSpec& model) {
  const std::vector<bool> backward = BlocksWithBackward(model);
  std::vector<double> costs;
  for (size_t i = 0; i < model.blocks.size(); ++i) {
    const BlockSpec& block = model.blocks[i];
    const double passes = TrainsParameters(block) ? 3 : backward[i] ? 2 : 1;
    costs.push_back(passes * block.forward_flops);
  }
  return costs;
}

std::vector<int> CutBlocks(const ModelSpec& model, int stages, Placement placement) {
  const int n = static_cast<int>(model.blocks.size());
  WEFT_CHECK(stages >= 1 && stages <= n) << stages << " stages of " << n << " blocks";
  if (placement == EVEN) {
    std::vector<int> first_blocks;
    for (int s = 0; s < stages; ++s)
      first_blocks.push_back(s * (n / stages) + std::min(s, n % stages));
    return first_blocks;
  }
  Cutter cutter(BlockCosts(model), stages);
  cutter.Minimise([](double before, double stage) { return std::max(before, stage); });
  const double dearest = cutter.best();
  // In units of the dearest, so that squares stay small.
  const double unit = dearest > 0 ? dearest : 1;
  cutter.Minimise([dearest, unit](double before, double stage) {
    return stage > dearest ? kInfinity : before + (stage / unit) * (stage / unit);
  });
  return cutter.FirstBlocks();
}

int FirstBackwardStage(const ModelSpec& model, const std::vector<int>& first_blocks) {
  const std::vector<bool> backward = BlocksWithBackward(model);
  const auto first = std::find(backward.begin(), backward.end(), true) - backward.begin();
  const auto after = std::upper_bound(first_blocks.begin(), first_blocks.end(), first);
  return static_cast<int>(after - first_blocks.begin()) - 1;
}

}  // namespace weft
