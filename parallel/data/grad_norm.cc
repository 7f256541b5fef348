#include "parallel/data/grad_norm.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
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

std::vector<double> BlockSums(const at::Tensor& shard) {
  std::vector<double> sums(static_cast<size_t>(shard.numel() / ParameterStore::kBlock));
  for (size_t b = 0; b < sums.size(); ++b) {
    const auto offset = static_cast<int64_t>(b) * ParameterStore::kBlock;
    sums[b] = shard.scalar_type() == at::kDouble
                  ? SquaredSum(shard.const_data_ptr<double>() + offset)
                  : SquaredSum(shard.const_data_ptr<float>() + offset);
  }
  return sums;
}

bool Counts(const ParameterGroup& group) { return group.trainable() && !group.replica(); }

// By the parameter's number in the model: the squared sum of this tp rank's part of it, zero for other stages' parameters.
StatusOr<std::vector<double>> ParameterSums(const ParameterStore& store,
                                            const GradientReducer& reducer,
                                            ParallelContext* context) {
  std::vector<double> own;
  for (size_t g = 0; g < store.groups().size(); ++g) {
    if (!Counts(store.groups()[g])) continue;
    const std::vector<double> blocks = BlockSums(reducer.shard(g));
    own.insert(own.end(), blocks.begin(), blocks.end());
  }
  const auto ranks = static_cast<size_t>(context->dp_size());
  std::vector<double> all = own;
  if (ranks > 1) {
    all.resize(own.size() * ranks);
    WEFT_RETURN_IF_ERROR(context->Wait(context->dp().AllGather(
        own.data(), all.data(), own.size(), DType::kFloat64, context->Op("grad_norm.gather"))));
  }
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
        sum += all[b / shard_blocks * own.size() + group_begin + b % shard_blocks];
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
  std::vector<double> all(sums->size() * static_cast<size_t>(ranks));
  WEFT_RETURN_IF_ERROR(context->Wait(context->tp().AllGather(
      sums->data(), all.data(), sums->size(), DType::kFloat64, context->Op("grad_norm.tensor"))));
  std::fill(sums->begin(), sums->end(), 0.0);
  for (size_t i = 0; i < all.size(); ++i) (*sums)[i % sums->size()] += all[i];
  return OkStatus();
}

}  // namespace

StatusOr<double> GradientNorm(const ParameterStore& store, const GradientReducer& reducer,
                              ParallelContext* context, int64_t step) {
  WEFT_ASSIGN_OR_RETURN(std::vector<double> sums, ParameterSums(store, reducer, context));
  WEFT_RETURN_IF_ERROR(SumOverTensorRanks(store, context, &sums));
  if (context->pp_size() > 1) {
    // Each parameter has its sum on one stage and exact zeros on the others.
    WEFT_RETURN_IF_ERROR(
        context->Wait(context->pp().AllReduce(sums.data(), sums.size(), DType::kFloat64,
                                              ReduceOp::kSum, context->Op("grad_norm.stages"))));
  }
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
