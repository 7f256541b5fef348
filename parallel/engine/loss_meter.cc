#include "parallel/engine/loss_meter.h"

#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <utility>

#include "cluster/base/logging.h"

namespace weft {
namespace {

double CountFor(LossScope scope, const double* slot, int micro_batch, int micro_batches,
                double global) {
  if (scope == LossScope::kGlobal) return global;
  if (scope == LossScope::kMicroBatch) return slot[micro_batch];
  double count = 0;
  for (int i = 0; i < micro_batches; ++i) count += slot[i];
  return count;
}

}  // namespace

LossMeter::LossMeter(std::vector<const LossOutput*> losses, int micro_batches,
                     ParallelContext* context)
    : losses_(std::move(losses)), micro_batches_(micro_batches), context_(context) {}

size_t LossMeter::IndexOf(const LossOutput& loss) const {
  size_t index = 0;
  while (index < losses_.size() && losses_[index] != &loss) ++index;
  WEFT_CHECK_LT(index, losses_.size()) << "loss " << loss.name << " belongs to another stage";
  return index;
}

Status LossMeter::Begin(std::span<const NamedTensors> inputs) {
  weights_.assign(inputs.size(), std::vector<double>(losses_.size()));
  targets_.assign(inputs.size(), std::vector<int64_t>(losses_.size()));
  sums_.assign(inputs.size(), std::vector<at::Tensor>(losses_.size()));
  if (losses_.empty()) return OkStatus();
  const auto own = static_cast<int64_t>(context_->slots().size());
  const auto num_losses = static_cast<int64_t>(losses_.size());
  const at::Tensor counts = at::zeros({own, num_losses, micro_batches_}, at::kDouble);
  for (int64_t i = 0; i < own; ++i) {
    for (int64_t l = 0; l < num_losses; ++l) {
      for (int64_t m = 0; m < micro_batches_; ++m) {
        const auto index = static_cast<size_t>(i * micro_batches_ + m);
        int64_t& targets = targets_[index][static_cast<size_t>(l)];
        targets = losses_[static_cast<size_t>(l)]->count(inputs[index]);
        counts[i][l][m] = static_cast<double>(targets);
      }
    }
  }
  WEFT_ASSIGN_OR_RETURN(const at::Tensor all, context_->AllGatherSlots(counts, "loss.counts"));
  const at::Tensor totals = all.sum(at::IntArrayRef{0, 2});
  for (int64_t i = 0; i < own; ++i) {
    for (int64_t l = 0; l < num_losses; ++l) {
      const auto* slot = counts[i][l].const_data_ptr<double>();
      const LossScope scope = losses_[static_cast<size_t>(l)]->scope;
      for (int m = 0; m < micro_batches_; ++m) {
        const double count = CountFor(scope, slot, m, micro_batches_, totals[l].item<double>());
        weights_[static_cast<size_t>(i * micro_batches_ + m)][static_cast<size_t>(l)] =
            LossWeight(scope, count, context_->num_slots(), micro_batches_);
      }
    }
  }
  return OkStatus();
}

double LossMeter::Weight(const LossOutput& loss, int micro_batch) const {
  return weights_[static_cast<size_t>(micro_batch)][IndexOf(loss)];
}

int64_t LossMeter::Targets(const LossOutput& loss, int micro_batch) const {
  for (size_t l = 0; l < losses_.size(); ++l) {
    if (losses_[l] == &loss) return targets_[static_cast<size_t>(micro_batch)][l];
  }
  return -1;
}

void LossMeter::Add(const LossOutput& loss, int micro_batch, const at::Tensor& sum) {
  sums_[static_cast<size_t>(micro_batch)][IndexOf(loss)] = sum;
}

// In the order (slot, loss, micro-batch), on the host.
StatusOr<at::Tensor> LossMeter::TakeSums() const {
  std::vector<at::Tensor> sums;
  for (size_t slot = 0; slot < sums_.size(); slot += static_cast<size_t>(micro_batches_)) {
    for (size_t l = 0; l < losses_.size(); ++l) {
      for (size_t m = 0; m < static_cast<size_t>(micro_batches_); ++m) {
        WEFT_CHECK(sums_[slot + m][l].defined()) << "a micro-batch without " << losses_[l]->name;
        sums.push_back(sums_[slot + m][l].reshape({}));
      }
    }
  }
  return context_->ToHost(at::stack(sums).to(at::kDouble));
}

StatusOr<std::vector<LossTerm>> LossMeter::Finish() {
  std::vector<LossTerm> terms;
  if (losses_.empty()) return terms;
  const auto own = static_cast<int64_t>(context_->slots().size());
  const auto num_losses = static_cast<int64_t>(losses_.size());
  const at::Tensor values = at::zeros({own, num_losses}, at::kDouble);
  WEFT_ASSIGN_OR_RETURN(const at::Tensor sums, TakeSums());
  const auto* next = sums.const_data_ptr<double>();
  for (int64_t i = 0; i < own; ++i) {
    for (int64_t l = 0; l < num_losses; ++l) {
      double value = 0;
      for (int64_t m = 0; m < micro_batches_; ++m) {
        const auto index = static_cast<size_t>(i * micro_batches_ + m);
        value += weights_[index][static_cast<size_t>(l)] * *next++;
      }
      values[i][l] = value;
    }
  }
  WEFT_ASSIGN_OR_RETURN(const at::Tensor all, context_->AllGatherSlots(values, "loss.values"));
  for (int64_t l = 0; l < num_losses; ++l) {
    const at::Tensor column = all.select(1, l).contiguous();
    terms.push_back(
        {losses_[static_cast<size_t>(l)]->name,
         TreeSum({column.const_data_ptr<double>(), static_cast<size_t>(column.numel())})});
  }
  return terms;
}

}  // namespace weft
