#include "parallel/context.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <utility>

#include "cluster/base/logging.h"
#include "parallel/engine/dtypes.h"

namespace weft {

ParallelContext::ParallelContext(const ParallelOptions& options) : options_(options) {
  if (options_.dp != nullptr) {
    dp_rank_ = options_.dp->rank();
    dp_size_ = options_.dp->size();
  }
  WEFT_CHECK_LE(dp_size_, options_.num_slots) << "more data-parallel ranks than slots";
  slots_ = SlotsOfRank(options_.num_slots, dp_size_, dp_rank_);
}

Status ParallelContext::Wait(WorkPtr work) {
  const auto start = std::chrono::steady_clock::now();
  const Status status = work->Wait();
  wait_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return status.ok() ? status : status.WithContext(work->name());
}

StatusOr<at::Tensor> ParallelContext::AllGatherSlots(const at::Tensor& own,
                                                     const std::string& name) {
  WEFT_CHECK_EQ(own.size(0), slots_.count);
  const at::Tensor mine = own.contiguous();
  if (dp_size_ == 1) return mine;
  // Ranks may own different numbers of slots: everybody sends the largest number.
  const int64_t most = SlotsOfRank(num_slots(), dp_size_, 0).count;
  const int64_t slot_elements = mine.numel() / slots_.count;
  const int64_t count = most * slot_elements;
  at::Tensor all = at::empty({dp_size_, count}, mine.options());
  all[dp_rank_].narrow(0, 0, mine.numel()).copy_(mine.flatten());
  if (mine.numel() < count) all[dp_rank_].narrow(0, mine.numel(), count - mine.numel()).zero_();
  WEFT_RETURN_IF_ERROR(
      Wait(dp().AllGather(all[dp_rank_].data_ptr(), all.data_ptr(), static_cast<size_t>(count),
                          ToDType(mine.scalar_type()), Op(name))));
  std::vector<int64_t> sizes = mine.sizes().vec();
  sizes[0] = num_slots();
  if (num_slots() % dp_size_ == 0) return all.view(sizes);
  at::Tensor packed = at::empty({num_slots(), slot_elements}, mine.options());
  for (int rank = 0; rank < dp_size_; ++rank) {
    const SlotRange range = SlotsOfRank(num_slots(), dp_size_, rank);
    packed.narrow(0, range.first, range.count)
        .copy_(
            all[rank].narrow(0, 0, range.count * slot_elements).view({range.count, slot_elements}));
  }
  return packed.view(sizes);
}

double ParallelContext::TakeWaitSeconds() { return std::exchange(wait_seconds_, 0.0); }

}  // namespace weft
