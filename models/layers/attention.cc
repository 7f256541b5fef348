#include "models/layers/attention.h"

#include <ATen/ops/_softmax_backward_data.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "cluster/base/logging.h"
#include "parallel/tensor/saved.h"

namespace weft {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Scores held at a time: they should stay in the second-level cache.
constexpr int64_t kScoresAtATime = 1 << 20;

// Sizes of a call. Query heads of one kv head are its group.
struct Sizes {
  Sizes(const at::Tensor& q, const at::Tensor& k)
      : b(q.size(0)),
        s(q.size(1)),
        t(k.size(1)),
        h(q.size(2)),
        kv(k.size(2)),
        d(q.size(3)),
        on_host(q.is_cpu()) {
    WEFT_CHECK(h % kv == 0) << h << " query heads share " << kv << " kv heads";
  }
  // Samples at a time; all of them where there is no cache to stay in.
  int64_t Step() const { return on_host ? std::max<int64_t>(1, kScoresAtATime / (h * s * t)) : b; }
  double Scale() const { return 1 / std::sqrt(static_cast<double>(d)); }

  int64_t b, s, t, h, kv, d;
  bool on_host;
};

// [n, s, h, d] -> [n kv, group s, d], and back.
at::Tensor GroupFirst(const at::Tensor& x, int64_t kv) {
  return x.transpose(1, 2).reshape({x.size(0) * kv, x.size(2) / kv * x.size(1), x.size(3)});
}
at::Tensor TokensFirst(const at::Tensor& x, int64_t n, int64_t heads) {
  return x.view({n, heads, -1, x.size(2)}).transpose(1, 2);
}

// One run of samples [begin, begin + count).
struct Part {
  at::Tensor q, k, v;  // [n kv, group s | t, d]
  at::Tensor mask;     // undefined, or [n, t]
  int64_t begin = 0;
  int64_t n = 0;
};

Part TakePart(const variable_list& saved, const Sizes& sizes, int64_t begin) {
  Part part;
  part.begin = begin;
  part.n = std::min(sizes.Step(), sizes.b - begin);
  const auto take = [&](const at::Tensor& x) {
    return GroupFirst(x.narrow(0, begin, part.n), sizes.kv);
  };
  part.q = take(saved[0]);
  part.k = take(saved[1]);
  part.v = take(saved[2]);
  if (saved[3].defined()) part.mask = saved[3].narrow(0, begin, part.n);
  return part;
}

// True where causality or another segment hides a key: [s, t], or [n, 1, s, t].
at::Tensor Hidden(const Part& part, const Sizes& sizes, const AttendOptions& options) {
  at::Tensor hidden = at::ones({sizes.s, sizes.t}, part.q.options().dtype(at::kBool)).triu(1);
  if (!options.segment_at.defined()) return hidden;
  const at::Tensor first = options.segment_at.narrow(0, part.begin, part.n);
  return at::arange(sizes.t, first.options())
      .lt(first.unsqueeze(2))
      .logical_or_(hidden)
      .unsqueeze(1);
}

// [n, h, s, t] in q's type.
at::Tensor Probabilities(const Part& part, const Sizes& sizes, const AttendOptions& options) {
  const at::ScalarType type = part.q.scalar_type();
  at::Tensor scores = at::bmm(part.q, part.k.transpose(1, 2))
                          .view({part.n, sizes.h, sizes.s, sizes.t})
                          .to(type == at::kDouble ? at::kDouble : at::kFloat)
                          .mul_(sizes.Scale());
  constexpr double kNever = -std::numeric_limits<double>::infinity();
  if (options.causal) scores.masked_fill_(Hidden(part, sizes, options), kNever);
  if (!part.mask.defined()) return at::softmax(scores, 3).to(type);
  scores.masked_fill_(part.mask.eq(0).view({part.n, 1, 1, sizes.t}), kNever);
  // A row without any key is 0 / 0.
  return at::softmax(scores, 3)
      .masked_fill_(scores.amax(3, /*keepdim=*/true).eq(kNever), 0)
      .to(type);
}

at::Tensor Drop(const at::Tensor& x, const Part& part, const Sizes& sizes,
                const AttendOptions& options) {
  return DropoutMasked(x, options.dropout,
                       HeadRuns(options.first_row + part.begin, sizes.h, options.first_head,
                                sizes.s, sizes.t, options.most_tokens));
}

at::Tensor AsGroups(const at::Tensor& x, const Sizes& sizes) {
  return x.view({x.size(0) * sizes.kv, sizes.h / sizes.kv * sizes.s, sizes.t});
}

struct AttendFunction : torch::autograd::Function<AttendFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const std::optional<at::Tensor>& given,
                            const AttendOptions& options) {
    const Sizes sizes(q, k);
    const at::Tensor mask = given.value_or(at::Tensor());
    const bool keep =
        !options.recompute && (q.requires_grad() || k.requires_grad() || v.requires_grad());
    at::Tensor kept =
        keep ? at::empty({sizes.b, sizes.h, sizes.s, sizes.t}, q.options()) : at::Tensor();
    at::Tensor y = at::empty({sizes.b, sizes.s, sizes.h, sizes.d}, q.options());
    for (int64_t begin = 0; begin < sizes.b; begin += sizes.Step()) {
      const Part part = TakePart({q, k, v, mask}, sizes, begin);
      const at::Tensor p = Probabilities(part, sizes, options);
      if (keep) kept.narrow(0, begin, part.n).copy_(p);
      const at::Tensor out = at::bmm(AsGroups(Drop(p, part, sizes, options), sizes), part.v);
      y.narrow(0, begin, part.n).copy_(TokensFirst(out, part.n, sizes.h));
    }
    ctx->saved_data["options"] = Save(options);
    ctx->save_for_backward({q, k, v, mask, kept});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto& options = Saved<AttendOptions>(ctx->saved_data["options"]);
    const variable_list saved = ctx->get_saved_variables();
    const Sizes sizes(saved[0], saved[1]);
    const variable_list result = {
        at::empty_like(saved[0]), at::empty_like(saved[1]), at::empty_like(saved[2]), {}, {}};
    for (int64_t begin = 0; begin < sizes.b; begin += sizes.Step()) {
      const Part part = TakePart(saved, sizes, begin);
      const at::Tensor p = saved[4].defined() ? saved[4].narrow(0, begin, part.n)
                                              : Probabilities(part, sizes, options);
      BackwardPart(part, sizes, options, p, grads[0].narrow(0, begin, part.n), result);
    }
    return result;
  }

  static void BackwardPart(const Part& part, const Sizes& sizes, const AttendOptions& options,
                           const at::Tensor& p, const at::Tensor& dy, const variable_list& result) {
    const at::Tensor d_out = GroupFirst(dy, sizes.kv);
    const at::Tensor dropped = AsGroups(Drop(p, part, sizes, options), sizes);
    const at::Tensor d_dropped =
        at::bmm(d_out, part.v.transpose(1, 2)).view({part.n, sizes.h, sizes.s, sizes.t});
    const at::ScalarType type = p.scalar_type();
    const at::ScalarType wide = type == at::kDouble ? at::kDouble : at::kFloat;
    const at::Tensor d_scores =
        AsGroups(at::_softmax_backward_data(Drop(d_dropped, part, sizes, options).to(wide),
                                            p.to(wide), 3, wide)
                     .mul_(sizes.Scale())
                     .to(type),
                 sizes);
    const auto put = [&](size_t i, const at::Tensor& x, int64_t heads) {
      result[i].narrow(0, part.begin, part.n).copy_(TokensFirst(x, part.n, heads));
    };
    put(0, at::bmm(d_scores, part.k), sizes.h);
    put(1, at::bmm(d_scores.transpose(1, 2), part.q), sizes.kv);
    put(2, at::bmm(dropped.transpose(1, 2), d_out), sizes.kv);
  }
};

// fp32 and fp64 have no flash kernel, and keyed dropout fits none.
bool FitsFused(const at::Tensor& q, const at::Tensor& key_mask, const AttendOptions& options) {
  return !q.is_cpu() && q.scalar_type() == at::kBFloat16 && options.causal &&
         options.dropout.p == 0 && (!key_mask.defined() || options.padding_last);
}

bool FitsSegments(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                  const AttendOptions& options) {
  return !options.segment_at.defined() || (options.segments > 0 && FitsSegmentsFused(q, k, v));
}

}  // namespace

at::Tensor AttendCausalFused(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  return at::scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2),
                                          /*attn_mask=*/{}, /*dropout_p=*/0.0, /*is_causal=*/true,
                                          /*scale=*/std::nullopt,
                                          /*enable_gqa=*/q.size(2) != k.size(2))
      .transpose(1, 2);
}

at::Tensor Attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                  const at::Tensor& key_mask, const AttendOptions& options) {
  WEFT_CHECK(!options.causal || q.size(1) == k.size(1)) << "causal attention over other tokens";
  WEFT_CHECK(options.dropout.p == 0 || options.most_tokens >= std::max(q.size(1), k.size(1)))
      << "more tokens than the recipe's " << options.most_tokens;
  WEFT_CHECK(!options.segment_at.defined() || (options.causal && !key_mask.defined()))
      << "segments want causal attention without a key mask";
  if (FitsFused(q, key_mask, options) && FitsSegments(q, k, v, options)) {
    return options.segment_at.defined()
               ? AttendSegmentsFused(q, k, v, options.segment_at, options.segments)
               : AttendCausalFused(q, k, v);
  }
  return AttendFunction::apply(q, k, v, std::optional<at::Tensor>(key_mask), options);
}

}  // namespace weft
