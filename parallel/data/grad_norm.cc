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

}  // namespace

StatusOr<double> GradientNorm(const ParameterStore& store, const GradientReducer& reducer,
                              ParallelContext* context, int64_t step) {
  double total = 0;
  for (size_t g = 0; g < store.groups().size(); ++g) {
    if (!store.groups()[g].trainable) continue;
    const std::vector<double> own = BlockSums(reducer.shard(g));
    std::vector<double> all = own;
    if (context->dp_size() > 1) {
      all.resize(own.size() * static_cast<size_t>(context->dp_size()));
      WEFT_RETURN_IF_ERROR(context->Wait(context->dp().AllGather(
          own.data(), all.data(), own.size(), DType::kFloat64, context->Op("grad_norm.gather"))));
    }
    // Buffer order is (parameter, block) order; gaps and the padding to whole shards add exact zeros.
    for (const double sum : all) total += sum;
  }
  const double norm = std::sqrt(total);
  if (std::isfinite(norm)) return norm;
  return Internal("step " + std::to_string(step) + ": the gradient norm is " +
                  std::to_string(norm) + "; lower optimizer.lr or set optimizer.clip_norm");
}

void ClipGradients(const ParameterStore& store, const GradientReducer& reducer, double norm,
                   double clip_norm) {
  if (clip_norm <= 0 || norm <= clip_norm) return;
  for (size_t g = 0; g < store.groups().size(); ++g) {
    if (store.groups()[g].trainable) at::Tensor(reducer.shard(g)).mul_(clip_norm / norm);
  }
}

}  // namespace weft
