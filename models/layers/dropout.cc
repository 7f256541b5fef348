#include "models/layers/dropout.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/ones.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "cluster/base/logging.h"
#include "cluster/base/philox.h"
#include "models/layers/cpu_dropout.h"
#include "models/layers/device_kernels.h"
#include "parallel/tensor/saved.h"

namespace weft {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

cpu::DropoutDraw DrawOf(const Dropout& dropout) {
  cpu::DropoutDraw draw;
  draw.key = dropout.key;
  draw.threshold = static_cast<uint32_t>(std::lround(dropout.p * 65536));
  draw.scale = dropout.p < 1 ? 1 / (1 - dropout.p) : 0;
  return draw;
}

// Runs that follow each other in the numbering become one.
ElementRuns Merge(ElementRuns runs) {
  const bool rows_whole = runs.inner_stride == runs.length &&
                          runs.outer_stride == runs.inner * runs.inner_stride &&
                          runs.runs_a_row % runs.inner == 0;
  if (!rows_whole || runs.first_run != 0) return runs;
  runs.length *= runs.runs_a_row;
  runs.runs_a_row = 1;
  runs.inner = 1;
  return runs;
}

template <typename T>
void DropoutRuns(const at::Tensor& x, const at::Tensor& y, const Dropout& dropout,
                 const ElementRuns& given) {
  const cpu::DropoutDraw draw = DrawOf(dropout);
  ElementRuns runs = given;
  if (x.numel() % (runs.length * runs.runs_a_row) == 0) runs = Merge(runs);
  const auto* in = static_cast<const T*>(x.const_data_ptr());
  auto* out = static_cast<T*>(y.data_ptr());
  const int64_t grain = std::max<int64_t>(1, (1 << 13) / runs.length);
  at::parallel_for(0, x.numel() / runs.length, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t number = runs.first_run + i;
      const int64_t n = number % runs.runs_a_row;
      const int64_t first =
          runs.offset + n / runs.inner * runs.outer_stride + n % runs.inner * runs.inner_stride;
      cpu::DropoutRun(in + i * runs.length, out + i * runs.length, runs.length, draw,
                      static_cast<uint64_t>(runs.first_row + number / runs.runs_a_row),
                      static_cast<uint64_t>(first));
    }
  });
}

void DeviceDropout(const at::Tensor& x, const at::Tensor& y, const Dropout& dropout,
                   const ElementRuns& runs) {
  const cpu::DropoutDraw draw = DrawOf(dropout);
  device::Dropout(
      x, y, x.numel() / runs.length,
      {draw.key, draw.threshold, draw.scale, runs.length, runs.first_row, runs.first_run,
       runs.runs_a_row, runs.inner, runs.inner_stride, runs.outer_stride, runs.offset});
}

struct DropoutFunction : torch::autograd::Function<DropoutFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const Dropout& dropout,
                            const ElementRuns& runs) {
    ctx->saved_data["dropout"] = Save(dropout);
    ctx->saved_data["runs"] = Save(runs);
    return DropoutMasked(x, dropout, runs);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    return {DropoutMasked(grads[0], Saved<Dropout>(ctx->saved_data["dropout"]),
                          Saved<ElementRuns>(ctx->saved_data["runs"])),
            {},
            {}};
  }
};

}  // namespace

uint64_t DropoutKey(const MicroBatchContext& context, const std::string& site) {
  return KeyedRandom(context.seed, "dropout:" + context.wave + "/" + site,
                     static_cast<uint64_t>(context.step))
      .key();
}

Dropout DropoutAt(const MicroBatchContext& context, const std::string& site, double p) {
  if (!context.training || p == 0) return {};
  return {p, DropoutKey(context, site)};
}

ElementRuns TokenRuns(const MicroBatchContext& context, int64_t tokens, int64_t width,
                      int64_t begin) {
  ElementRuns runs;
  runs.length = width;
  runs.first_row = context.first_row + begin / tokens;
  runs.first_run = begin % tokens;
  runs.runs_a_row = tokens;
  runs.inner = tokens;
  runs.inner_stride = width;
  runs.outer_stride = tokens * width;
  return runs;
}

ElementRuns HeadRuns(int64_t first_row, int64_t heads, int64_t first_head, int64_t queries,
                     int64_t keys, int64_t most) {
  ElementRuns runs;
  runs.length = keys;
  runs.first_row = first_row;
  runs.runs_a_row = heads * queries;
  runs.inner = queries;
  runs.inner_stride = most;
  runs.outer_stride = most * most;
  runs.offset = first_head * most * most;
  return runs;
}

at::Tensor DropoutMasked(const at::Tensor& x, const Dropout& dropout, const ElementRuns& runs) {
  if (dropout.p == 0) return x;
  const at::Tensor in = x.contiguous();
  at::Tensor out = at::empty_like(in);
  if (in.numel() == 0) return out;
  if (!in.is_cpu()) {
    DeviceDropout(in, out, dropout, runs);
    return out;
  }
  switch (in.scalar_type()) {
    case at::kDouble:
      DropoutRuns<double>(in, out, dropout, runs);
      break;
    case at::kFloat:
      DropoutRuns<float>(in, out, dropout, runs);
      break;
    default:
      WEFT_CHECK(in.scalar_type() == at::kBFloat16) << "dropout of " << in.scalar_type();
      DropoutRuns<cpu::BFloat16Bits>(in, out, dropout, runs);
  }
  return out;
}

at::Tensor ApplyDropout(const at::Tensor& x, const Dropout& dropout, const ElementRuns& runs) {
  return dropout.p == 0 ? x : DropoutFunction::apply(x, dropout, runs);
}

at::Tensor DropPath(const at::Tensor& x, const Dropout& dropout, const MicroBatchContext& context,
                    int64_t tokens, int64_t begin) {
  if (dropout.p == 0) return x;
  const int64_t rows = x.numel() / std::max<int64_t>(1, x.size(-1));
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = 1;
  at::Tensor keep = at::ones({rows}, at::kDouble);
  double* const k = keep.data_ptr<double>();
  const cpu::DropoutDraw draw = DrawOf(dropout);
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t sample = (begin + i) / tokens;
    if (i > 0 && sample == (begin + i - 1) / tokens) {
      k[i] = k[i - 1];
    } else {
      cpu::DropoutRun(k + i, k + i, 1, draw, static_cast<uint64_t>(context.first_row + sample), 0);
    }
  }
  const at::ScalarType wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return at::mul(x, keep.to(wide).view(sizes).to(x.device())).to(x.scalar_type());
}

}  // namespace weft
