#include "dataloader/batch_dealer.h"

#include <utility>

namespace weft {

BatchDealer::BatchDealer(const DataRecipe& data, const BatchRecipe& batch, uint64_t seed,
                         SampleOrder order, const SampleMix* mix)
    : options_{batch.slots(), batch.micro_batches(), data.balance().group(),
               data.balance().moved()},
      attention_(data.balance().attention()),
      rows_(order.rows_per_slot()),
      grouper_(data, seed, std::move(order), mix),
      mix_(mix) {}

StatusOr<SampleRef> BatchDealer::At(int64_t step, int64_t slot, int64_t row, int64_t substitute) {
  if (options_.group < 1) return grouper_.At(step, slot, row, substitute);
  WEFT_ASSIGN_OR_RETURN(const std::shared_ptr<const Deal> deal, DealOf(step));
  const int64_t from = (*deal)[static_cast<size_t>(slot * rows_ + row)];
  return grouper_.At(step, from / rows_, from % rows_, substitute);
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

StatusOr<BatchDealer::Deal> BatchDealer::Compute(int64_t step) {
  std::vector<int64_t> costs;
  for (int64_t slot = 0; slot < options_.slots; ++slot) {
    WEFT_ASSIGN_OR_RETURN(const std::vector<SampleRef> rows, grouper_.Rows(step, slot));
    for (const SampleRef& ref : rows) {
      WEFT_ASSIGN_OR_RETURN(const int64_t length, mix_->Length(ref));
      WEFT_ASSIGN_OR_RETURN(const int64_t pairs, mix_->AttentionPairs(ref));
      costs.push_back(RowCost(length, pairs, attention_));
    }
  }
  return BalanceRows(options_, costs);
}

}  // namespace weft
