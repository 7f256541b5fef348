#include "parallel/data/grad_norm.h"

#include <ATen/ops/add.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "cluster/base/logging.h"

namespace weft {
namespace {

// Eight interleaved sums, so that the loop runs in vector registers in the same order everywhere.
template <typename T>
double SquaredSum(const T* data) {
  constexpr int kLanes = 8;
  std::array<double, kLanes> lanes{};
  for (int64_t i = 0; i < ParameterStore::kBlock; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const auto value = static_cast<double>(data[i + lane]);
      lanes[lane] += value * value;
    }
  }
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
         ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

at::Tensor HostBlockSums(const at::Tensor& shard) {
  at::Tensor sums = at::empty({shard.numel() / ParameterStore::kBlock}, at::kDouble);
  auto* out = sums.data_ptr<double>();
  for (int64_t b = 0; b < sums.numel(); ++b) {
    const int64_t offset = b * ParameterStore::kBlock;
    out[b] = shard.scalar_type() == at::kDouble
                 ? SquaredSum(shard.const_data_ptr<double>() + offset)
                 : SquaredSum(shard.const_data_ptr<float>() + offset);
  }
  return sums;
}

// Halves are added to halves: elementwise operations, so a fixed order on every device.
at::Tensor DeviceBlockSums(const at::Tensor& shard) {
  at::Tensor squares = shard.view({-1, ParameterStore::kBlock}).to(at::kDouble).square();
  for (int64_t width = ParameterStore::kBlock / 2; width > 0; width /= 2)
    squares = at::add(squares.narrow(1, 0, width), squares.narrow(1, width, width));
  return squares.flatten();
}

// Over the numbers themselves.
at::Tensor AsTensor(std::vector<double>* numbers) {
  return at::from_blob(numbers->data(), {static_cast<int64_t>(numbers->size())}, at::kDouble);
}

bool Counts(const ParameterGroup& group) { return group.trainable() && !group.replica(); }

// By the parameter's number in the model: the squared sum of this tp rank's part of it, zero for other stages' parameters.
StatusOr<std::vector<double>> ParameterSums(const ParameterStore& store,
                                            const GradientReducer& reducer,
                                            ParallelContext* context) {
  std::vector<at::Tensor> parts = {at::empty({0}, store.TensorsOf(at::kDouble))};
  for (size_t g = 0; g < store.groups().size(); ++g) {
    if (!Counts(store.groups()[g])) continue;
    const at::Tensor& shard = reducer.shard(g);
    parts.push_back(shard.is_cpu() ? HostBlockSums(shard) : DeviceBlockSums(shard));
  }
  const at::Tensor own = at::cat(parts);
  at::Tensor gathered = own;
  if (context->dp_size() > 1) {
    gathered = at::empty({context->dp_size() * own.numel()}, own.options());
    WEFT_RETURN_IF_ERROR(context->Wait(context->dp().AllGather(
        own.data_ptr(), gathered.data_ptr(), static_cast<size_t>(own.numel()), DType::kFloat64,
        context->Op("grad_norm.gather"))));
  }
  WEFT_ASSIGN_OR_RETURN(const at::Tensor host, context->ToHost(gathered));
  const auto* all = host.const_data_ptr<double>();
  const auto own_size = static_cast<size_t>(own.numel());
  std::vector<double> sums(static_cast<size_t>(store.num_model_params()));
  size_t group_begin = 0;  // in a rank's part
  for (const ParameterGroup& group : store.groups()) {
    if (!Counts(group)) continue;
    const auto shard_blocks = static_cast<size_t>(group.shard_size / ParameterStore::kBlock);
    for (const Parameter* parameter : group.parameters) {
      const auto first = static_cast<size_t>(parameter->offset / ParameterStore::kBlock);
      const auto count = static_cast<size_t>(
          (parameter->value.numel() + ParameterStore::kBlock - 1) / ParameterStore::kBlock);
      double& sum = sums[static_cast<size_t>(parameter->index)];
      for (size_t b = first; b < first + count; ++b)
        sum += all[b / shard_blocks * own_size + group_begin + b % shard_blocks];
    }
    group_begin += shard_blocks;
  }
  return sums;
}

// A parameter is counted on the first rank of each run that holds the same slice.
Status SumOverTensorRanks(const ParameterStore& store, ParallelContext* context,
                          std::vector<double>* sums) {
  const int ranks = context->tp_size();
  if (ranks == 1) return OkStatus();
  for (const auto& parameter : store.parameters()) {
    if (context->tp_rank() % TpReplicas(parameter->spec, ranks) != 0)
      (*sums)[static_cast<size_t>(parameter->index)] = 0;
  }
  const at::Tensor own = context->device().ToDevice(AsTensor(sums));
  const at::Tensor gathered = at::empty({ranks, own.numel()}, own.options());
  WEFT_RETURN_IF_ERROR(
      context->Wait(context->tp().AllGather(own.data_ptr(), gathered.data_ptr(), sums->size(),
                                            DType::kFloat64, context->Op("grad_norm.tensor"))));
  WEFT_ASSIGN_OR_RETURN(const at::Tensor host, context->ToHost(gathered));
  const auto* all = host.const_data_ptr<double>();
  std::fill(sums->begin(), sums->end(), 0.0);
  for (int64_t i = 0; i < host.numel(); ++i)
    (*sums)[static_cast<size_t>(i) % sums->size()] += all[i];
  return OkStatus();
}

// Each parameter has its sum on one stage and exact zeros on the others.
Status SumOverStages(ParallelContext* context, std::vector<double>* sums) {
  if (context->pp_size() == 1) return OkStatus();
  const at::Tensor all = context->device().ToDevice(AsTensor(sums));
  WEFT_RETURN_IF_ERROR(
      context->Wait(context->pp().AllReduce(all.data_ptr(), sums->size(), DType::kFloat64,
                                            ReduceOp::kSum, context->Op("grad_norm.stages"))));
  WEFT_ASSIGN_OR_RETURN(const at::Tensor host, context->ToHost(all));
  AsTensor(sums).copy_(host);
  return OkStatus();
}

}  // namespace

StatusOr<double> GradientNorm(const ParameterStore& store, const GradientReducer& reducer,
                              ParallelContext* context, int64_t step) {
  WEFT_ASSIGN_OR_RETURN(std::vector<double> sums, ParameterSums(store, reducer, context));
  WEFT_RETURN_IF_ERROR(SumOverTensorRanks(store, context, &sums));
  WEFT_RETURN_IF_ERROR(SumOverStages(context, &sums));
  double total = 0;
  for (const double sum : sums) total += sum;
  const double norm = std::sqrt(total);
  if (std::isfinite(norm)) return norm;
  return Internal("step " + std::to_string(step) + ": the gradient norm is " +
                  std::to_string(norm) + "; lower optimizer.lr or set optimizer.clip_norm");
}

void ClipGradients(const ParameterStore& store, const GradientReducer& reducer, double norm,
                   double clip_norm) {
  if (clip_norm <= 0 || norm <= clip_norm) return;
  for (size_t g = 0; g < store.groups().size(); ++g) {
    if (store.groups()[g].trainable()) at::Tensor(reducer.shard(g)).mul_(clip_norm / norm);
  }
}

}  // namespace weft
