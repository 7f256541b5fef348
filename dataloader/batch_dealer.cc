#include "dataloader/batch_dealer.h"

#include <utility>

namespace weft {

BatchDealer::BatchDealer(const BalanceRecipe& balance, const BatchRecipe& batch, SampleOrder order,
                         const SampleMix* mix)
    : options_{batch.slots(), batch.micro_batches(), balance.group(), balance.moved()},
      attention_(balance.attention()),
      order_(std::move(order)),
      mix_(mix) {}

StatusOr<SampleRef> BatchDealer::At(int64_t step, int64_t slot, int64_t row, int64_t substitute) {
  if (options_.group < 1) return order_.At(step, slot, row, substitute);
  WEFT_ASSIGN_OR_RETURN(const std::shared_ptr<const Deal> deal, DealOf(step));
  const int64_t rows = order_.rows_per_slot();
  const int64_t from = (*deal)[static_cast<size_t>(slot * rows + row)];
  return order_.At(step, from / rows, from % rows, substitute);
}

StatusOr<std::shared_ptr<const BatchDealer::Deal>> BatchDealer::DealOf(int64_t step) {
  MutexLock lock(mutex_);
  const auto found = deals_.find(step);
  if (found != deals_.end()) return found->second;
  // Under the lock: whoever else wants this step would compute the same.
  WEFT_ASSIGN_OR_RETURN(Deal deal, Compute(step));
  if (deals_.size() >= kMaxDeals) deals_.erase(deals_.begin());
  return deals_.emplace(step, std::make_shared<const Deal>(std::move(deal))).first->second;
}

StatusOr<BatchDealer::Deal> BatchDealer::Compute(int64_t step) const {
  std::vector<int64_t> costs;
  for (int64_t slot = 0; slot < options_.slots; ++slot) {
    for (int64_t row = 0; row < order_.rows_per_slot(); ++row) {
      const SampleRef ref = order_.At(step, slot, row);
      WEFT_ASSIGN_OR_RETURN(const int64_t length, mix_->Length(ref));
      costs.push_back(RowCost(length, attention_));
    }
  }
  return BalanceRows(options_, costs);
}

}  // namespace weft
