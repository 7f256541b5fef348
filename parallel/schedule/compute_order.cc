#include "parallel/schedule/compute_order.h"

#include <algorithm>

namespace weft {
namespace {

struct Unit {
  int stage = 0;
  int micro_batch = 0;
};

// Appends actions of one rank and phase; leaves out micro-batches and backwards that do not exist.
class OrderWriter {
 public:
  OrderWriter(const ProgramSpec& spec, int phase, int rank, int micro_batches)
      : spec_(spec), phase_(phase), rank_(rank), micro_batches_(micro_batches) {}

  // How many units (stage, micro-batch) the rank has, those that are left out included.
  int num_units() const { return spec_.chunks * PaddedMicroBatches(); }

  void Forward(int index) {
    const Unit unit = UnitAt(index, /*backward=*/false);
    if (unit.micro_batch < micro_batches_) Add(ActionKind::kForward, unit);
  }

  // The weight gradients follow `delay` backwards later; without a delay of at least 0 both are one action.
  void Backward(int index, int delay) {
    const Unit unit = UnitAt(index, /*backward=*/true);
    if (unit.micro_batch >= micro_batches_ || unit.stage < spec_.first_backward_stage) return;
    if (delay < 0) return Add(ActionKind::kBackward, unit);
    Add(ActionKind::kBackwardInput, unit);
    waiting_.push_back(unit);
    if (static_cast<int>(waiting_.size()) > delay) Weights();
  }

  RankProgram Finish() {
    while (!waiting_.empty()) Weights();
    return std::move(order_);
  }

 private:
  int PaddedMicroBatches() const {
    const int p = spec_.ranks;
    return spec_.chunks == 1 ? micro_batches_ : (micro_batches_ + p - 1) / p * p;
  }

  // Groups of p micro-batches go through the rank's stages one after the other; backwards from the last stage.
  Unit UnitAt(int index, bool backward) const {
    if (spec_.chunks == 1) return {rank_, index};
    const int p = spec_.ranks;
    const int group = index / (p * spec_.chunks);
    const int step = index / p % spec_.chunks;
    const int chunk = backward ? spec_.chunks - 1 - step : step;
    return {chunk * p + rank_, group * p + index % p};
  }

  void Weights() {
    Add(ActionKind::kBackwardWeight, waiting_.front());
    waiting_.erase(waiting_.begin());
  }

  void Add(ActionKind kind, Unit unit) {
    order_.push_back(
        {.kind = kind, .phase = phase_, .stage = unit.stage, .micro_batch = unit.micro_batch});
  }

  const ProgramSpec& spec_;
  int phase_;
  int rank_;
  int micro_batches_;
  // Input gradients are done, weight gradients not yet.
  std::vector<Unit> waiting_;
  RankProgram order_;
};

// How many forwards go before the first backward.
int WarmUp(const ProgramSpec& spec, int rank) {
  const int later_ranks = spec.ranks - 1 - rank;
  // The way to the end and back over the other ranks, and one group for each further stage.
  return spec.chunks == 1 ? later_ranks : 2 * later_ranks + (spec.chunks - 1) * spec.ranks;
}

}  // namespace

RankProgram ComputeOrder(const ProgramSpec& spec, int phase, int rank, int micro_batches) {
  const bool forward = spec.RunsForward(phase);
  const bool backward = spec.RunsBackward(phase);
  OrderWriter writer(spec, phase, rank, micro_batches);
  const int n = writer.num_units();
  int warm_up = std::min(n, WarmUp(spec, rank));
  if (spec.schedule == GPIPE || !forward || !backward) warm_up = n;
  // Without forwards beside them there is no bubble that late weight gradients could fill.
  int delay = -1;
  if (spec.schedule == ZB_H1) delay = forward ? std::max(0, rank - spec.first_backward_stage) : 0;

  for (int i = 0; forward && i < warm_up; ++i) writer.Forward(i);
  for (int i = warm_up; i < n; ++i) {
    writer.Forward(i);
    writer.Backward(i - warm_up, delay);
  }
  for (int i = n - warm_up; backward && i < n; ++i) writer.Backward(i, delay);
  return writer.Finish();
}

}  // namespace weft
