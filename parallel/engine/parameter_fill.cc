// The values that parameters start with. Every rank computes what it holds, by places in the global tensor, so that no layout
// changes them.
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <vector>

#include "cluster/base/philox.h"
#include "parallel/engine/parameter_store.h"

namespace weft {
namespace {

// Runs of neighbouring elements: local and global flat index, length.
template <typename F>
void ForEachRun(const Parameter& parameter, const F& f) {
  const std::vector<int64_t>& shape = parameter.spec.shape;
  const int dim = parameter.spec.tp_dim;
  if (dim < 0) return f(0, 0, parameter.spec.NumElements());
  int64_t outer = 1;
  int64_t inner = 1;
  for (int d = 0; d < dim; ++d) outer *= shape[d];
  for (size_t d = static_cast<size_t>(dim) + 1; d < shape.size(); ++d) inner *= shape[d];
  int64_t local = 0;
  for (const TensorBox& box : parameter.boxes) {
    const int64_t length = box.lengths[dim] * inner;
    for (int64_t o = 0; o < outer; ++o) {
      f(local, (o * shape[dim] + box.offsets[dim]) * inner, length);
      local += length;
    }
  }
}

}  // namespace

void InitValues(const ParamSpec& spec, uint64_t seed, int64_t begin, int64_t end, double* out) {
  const KeyedRandom random(seed, "init:" + spec.source());
  const double scale = spec.init.value;
  const int64_t row = spec.padding_row < 0 ? 0 : spec.NumElements() / spec.shape[0];
  for (int64_t i = begin; i < end; ++i) {
    const auto element = static_cast<uint64_t>(i);
    if (row > 0 && i / row == spec.padding_row) {
      *out++ = 0;
      continue;
    }
    switch (spec.init.kind) {
      case InitKind::kConstant:
        *out++ = scale;
        break;
      case InitKind::kNormal:
        *out++ = scale * random.Normal(0, element);
        break;
      case InitKind::kUniform:
        *out++ = scale * (2 * random.Uniform(0, element) - 1);
        break;
    }
  }
}

void ParameterStore::FillAll(const Fill& fill) {
  constexpr int64_t kChunk = 1 << 16;
  std::vector<double> chunk(kChunk);
  for (const auto& parameter : parameters_) {
    ParamSpec source = parameter->spec;
    source.name = source.source();
    ForEachRun(*parameter, [&](int64_t local, int64_t global, int64_t length) {
      for (int64_t begin = 0; begin < length; begin += kChunk) {
        const int64_t count = std::min(kChunk, length - begin);
        fill(source, global + begin, global + begin + count, chunk.data());
        const at::Tensor exact = at::from_blob(chunk.data(), {count}, at::kDouble);
        FillRange(*parameter, local + begin, exact.to(accumulate_type_));
      }
    });
  }
}

// Values are rounded from the master type, as after every optimizer step.
void ParameterStore::FillRange(const Parameter& parameter, int64_t local_begin,
                               const at::Tensor& master) {
  ParameterGroup& group = groups_[static_cast<size_t>(parameter.group)];
  const int64_t begin = parameter.offset + local_begin;
  if (!group.kind.gathered) group.values.narrow(0, begin, master.numel()).copy_(master);
  const int64_t shard_begin = context_->shard() * group.shard_size;
  const int64_t from = std::max(begin, shard_begin);
  const int64_t to = std::min(begin + master.numel(), shard_begin + group.shard_size);
  if (from >= to) return;
  const at::Tensor part = master.narrow(0, from - begin, to - from);
  group.shard_values.narrow(0, from - shard_begin, to - from).copy_(part);
  group.master.narrow(0, from - shard_begin, to - from).copy_(part);
}

void ParameterStore::Initialize(uint64_t seed) {
  FillAll([seed](const ParamSpec& spec, int64_t begin, int64_t end, double* out) {
    InitValues(spec, seed, begin, end, out);
  });
}

}  // namespace weft
