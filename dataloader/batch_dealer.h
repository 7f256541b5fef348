// Which sample a row of a batch gets: the order's, grouped into batches by `data.batcher`, dealt over the slots of the batch
// by `data.balance`.
//
// Errors: those of reading lengths (Unavailable). Thread rule: safe from any thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "cluster/base/mutex.h"
#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"
#include "dataloader/balance.h"
#include "dataloader/batch_grouper.h"
#include "dataloader/order.h"
#include "dataloader/sample_mix.h"

namespace weft {

class BatchDealer {
 public:
  // `mix` outlives the dealer.
  BatchDealer(const DataRecipe& data, const BatchRecipe& batch, uint64_t seed, SampleOrder order,
              const SampleMix* mix);

  // As BatchGrouper::At. Substitutes come from the window of the place that the sample was dealt from.
  StatusOr<SampleRef> At(int64_t step, int64_t slot, int64_t row, int64_t substitute);
  const SampleOrder& order() const { return grouper_.order(); }

 private:
  using Deal = std::vector<int32_t>;
  // Steps that are kept: those whose rows are in the making.
  static constexpr size_t kMaxDeals = 8;

  StatusOr<std::shared_ptr<const Deal>> DealOf(int64_t step);
  StatusOr<Deal> Compute(int64_t step);

  const BalanceOptions options_;
  const double attention_;
  const int64_t rows_;  // of a slot
  BatchGrouper grouper_;
  const SampleMix* const mix_;

  Mutex mutex_;
  std::map<int64_t, std::shared_ptr<const Deal>> deals_ WEFT_GUARDED_BY(mutex_);
};

}  // namespace weft
