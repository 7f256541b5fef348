#include "parallel/context.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <utility>

#include "cluster/base/logging.h"
#include "parallel/engine/dtypes.h"

namespace weft {

ParallelContext::ParallelContext(const ParallelOptions& options) : options_(options) {
  WEFT_CHECK_LE(dp_size(), options_.num_slots) << "more data-parallel ranks than slots";
  WEFT_CHECK_EQ(dp_size() % shards(), 0) << "dp ranks in groups of " << shards();
  slots_ = OwnSlots(options_.num_slots, dp_size(), dp_rank(), options_.slot_order);
}

TensorAxis ParallelContext::tensor() const {
  TensorAxis axis;
  axis.comm = tp_size() > 1 ? options_.tp : nullptr;
  axis.rank = tp_rank();
  axis.size = tp_size();
  axis.sequence = sequence_parallel();
  axis.timeout = options_.timeout;
  axis.stream = options_.device.stream();
  return axis;
}

Status ParallelContext::Wait(WorkPtr work) {
  const auto start = std::chrono::steady_clock::now();
  const Status status = work->Wait();
  waits_[work->name()] +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return status.ok() ? status : status.WithContext(work->name());
}

StatusOr<at::Tensor> ParallelContext::ToHost(const at::Tensor& tensor) const {
  at::Tensor host = device().ToHost(tensor);
  if (device().is_cpu()) return host;
  for (const Communicator* axis : {options_.dp, options_.tp, options_.pp}) {
    if (axis != nullptr) WEFT_RETURN_IF_ERROR(axis->failure());
  }
  return host;
}

void ParallelContext::Abandon(WorkPtr work) {
  if (work == nullptr || work->Done()) return;
  for (Communicator* axis : {options_.dp, options_.tp, options_.pp}) {
    if (axis != nullptr) axis->Abort(Cancelled("the step was given up during " + work->name()));
  }
  // Its status is of no use: the step has another reason to end.
  static_cast<void>(work->Wait());
}

StatusOr<at::Tensor> ParallelContext::AllGatherSlots(const at::Tensor& own,
                                                     const std::string& name) {
  const auto own_count = static_cast<int64_t>(slots_.size());
  WEFT_CHECK_EQ(own.size(0), own_count);
  if (dp_size() == 1) return own.contiguous();
  if (own.is_cpu() && !device().is_cpu()) {
    WEFT_ASSIGN_OR_RETURN(const at::Tensor all, AllGatherSlots(device().ToDevice(own), name));
    return ToHost(all);
  }
  const at::Tensor mine = own.contiguous();
  // Ranks may own different numbers of slots: everybody sends the largest number.
  const int64_t most = (num_slots() + dp_size() - 1) / dp_size();
  const int64_t slot_elements = mine.numel() / own_count;
  const int64_t count = most * slot_elements;
  at::Tensor all = at::zeros({dp_size(), most, slot_elements}, mine.options());
  all[dp_rank()].narrow(0, 0, own_count).copy_(mine.view({own_count, slot_elements}));
  WEFT_RETURN_IF_ERROR(
      Wait(dp().AllGather(all[dp_rank()].data_ptr(), all.data_ptr(), static_cast<size_t>(count),
                          ToDType(mine.scalar_type()), Op(name))));
  std::vector<int64_t> sizes = mine.sizes().vec();
  sizes[0] = num_slots();
  if (num_slots() % dp_size() == 0 && slot_order() == SlotOrder::kContiguous)
    return all.view(sizes);
  at::Tensor packed = at::empty({num_slots(), slot_elements}, mine.options());
  for (int rank = 0; rank < dp_size(); ++rank) {
    const std::vector<int> slots = OwnSlots(num_slots(), dp_size(), rank, slot_order());
    for (size_t i = 0; i < slots.size(); ++i)
      packed[slots[i]].copy_(all[rank][static_cast<int64_t>(i)]);
  }
  return packed.view(sizes);
}

WorkPtr ParallelContext::AllGatherShards(const void* own, void* all, size_t bytes,
                                         const std::string& name) {
  if (shards() == dp_size()) return dp().AllGather(own, all, bytes, DType::kUInt8, Op(name));
  std::vector<SendBuffer> send(static_cast<size_t>(dp_size()));
  std::vector<RecvBuffer> recv(send.size());
  const int first = dp_rank() - shard();
  for (int i = 0; i < shards(); ++i) {
    const auto rank = static_cast<size_t>(first + i);
    send[rank] = {own, bytes};
    recv[rank] = {static_cast<char*>(all) + static_cast<size_t>(i) * bytes, bytes};
  }
  return dp().AllToAll(send, recv, Op(name));
}

Status ParallelContext::AllReduceWorld(int64_t* data, size_t count, ReduceOp op,
                                       const std::string& name) {
  if (dp_size() * tp_size() * pp_size() == 1) return OkStatus();
  const at::Tensor host = at::from_blob(data, {static_cast<int64_t>(count)}, at::kLong);
  const at::Tensor numbers = device().ToDevice(host);
  for (Communicator* axis : {options_.tp, options_.dp, options_.pp}) {
    if (axis == nullptr || axis->size() == 1) continue;
    WEFT_RETURN_IF_ERROR(
        Wait(axis->AllReduce(numbers.data_ptr(), count, DType::kInt64, op, Op(name))));
  }
  WEFT_ASSIGN_OR_RETURN(const at::Tensor result, ToHost(numbers));
  host.copy_(result);
  return OkStatus();
}

std::map<std::string, double> ParallelContext::TakeWaits() { return std::exchange(waits_, {}); }

double ParallelContext::TakeWaitSeconds() {
  double total = 0;
  for (const auto& [name, seconds] : TakeWaits()) total += seconds;
  return total;
}

}  // namespace weft
