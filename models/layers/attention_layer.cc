#include "models/layers/attention_layer.h"

#include <algorithm>
#include <vector>

#include "cluster/base/logging.h"
#include "models/layers/rope.h"

namespace weft {
namespace {

std::vector<LinearParameters> SelfProjections(const AttentionParameters& p) {
  if (p.qkv.weight != nullptr) return {p.qkv};
  return {p.q, p.k, p.v};
}

}  // namespace

AttentionLayer::AttentionLayer(const AttentionParameters& parameters,
                               const AttentionOptions& options, const TensorAxis& axis)
    : options_(options),
      axis_(axis),
      heads_(options.heads / axis.size),
      kv_heads_(std::max<int64_t>(1, options.kv_heads / axis.size)),
      fused_(parameters.qkv.weight != nullptr),
      qkv_(SelfProjections(parameters), axis),
      out_(parameters.out, axis) {
  WEFT_CHECK(options.heads % axis.size == 0)
      << options.site << ": " << options.heads << " heads over " << axis.size << " ranks";
  if (fused_) return;
  q_.emplace(std::vector<LinearParameters>{parameters.q}, axis);
  kv_.emplace(std::vector<LinearParameters>{parameters.k, parameters.v}, axis);
}

AttendOptions AttentionLayer::OptionsOf(const AttentionInput& input,
                                        const MicroBatchContext& context) const {
  AttendOptions options;
  options.causal = options_.causal;
  options.padding_last = options_.padding_last;
  options.segment_at = input.segment_at;
  options.segments = context.segments;
  options.dropout = DropoutAt(context, options_.site, options_.dropout);
  options.first_row = context.first_row;
  options.first_head = axis_.rank * heads_;
  options.most_tokens = options_.most_tokens;
  options.recompute = context.selective_recompute;
  return options;
}

at::Tensor AttentionLayer::SplitHeads(const at::Tensor& x, const TokenRows& rows,
                                      int64_t heads) const {
  return x.view({rows.samples, rows.tokens, heads, x.size(-1) / heads});
}

at::Tensor AttentionLayer::Output(const at::Tensor& heads, const AttentionInput& input) const {
  const int64_t features = heads.size(2) * heads.size(3);
  if (input.x.dim() == 2) return out_(heads.reshape({input.rows.all(), features}));
  return out_(heads.reshape({input.rows.samples, input.rows.tokens, features}));
}

at::Tensor AttentionLayer::AttendFused(const at::Tensor& qkv, const AttentionInput& input,
                                       const MicroBatchContext& context) const {
  const TokenRows& rows = input.rows;
  const at::Tensor parts =
      qkv.view({rows.samples, rows.tokens, 3, heads_, qkv.size(-1) / (3 * heads_)});
  const AttendOptions options = OptionsOf(input, context);
  const bool plain = options.dropout.p == 0 && !input.key_mask.defined() &&
                     !input.segment_at.defined() && options_.rope_theta == 0;
  if (plain) return AttendHeads(parts, options_.causal);
  const std::vector<at::Tensor> apart = parts.unbind(2);
  if (options_.rope_theta == 0)
    return Attend(apart[0], apart[1], apart[2], input.key_mask, options);
  return Attend(Rotate(apart[0], options_.rope_theta, input.segment_at),
                Rotate(apart[1], options_.rope_theta, input.segment_at), apart[2], input.key_mask,
                options);
}

at::Tensor AttentionLayer::operator()(const AttentionInput& input,
                                      const MicroBatchContext& context) const {
  const std::vector<at::Tensor> projected = qkv_(input.x, input.rows.all());
  if (fused_) return Output(AttendFused(projected[0], input, context), input);
  at::Tensor q = SplitHeads(projected[0], input.rows, heads_);
  at::Tensor k = SplitHeads(projected[1], input.rows, kv_heads_);
  const at::Tensor v = SplitHeads(projected[2], input.rows, kv_heads_);
  if (options_.rope_theta != 0) {
    q = Rotate(q, options_.rope_theta, input.segment_at);
    k = Rotate(k, options_.rope_theta, input.segment_at);
  }
  return Output(Attend(q, k, v, input.key_mask, OptionsOf(input, context)), input);
}

at::Tensor AttentionLayer::Cross(const AttentionInput& input, const AttentionInput& memory,
                                 const MicroBatchContext& context) const {
  WEFT_CHECK(!fused_) << options_.site << ": cross-attention wants q, k and v apart";
  const at::Tensor q = (*q_)(input.x, input.rows.all())[0];
  const std::vector<at::Tensor> kv = (*kv_)(memory.x, memory.rows.all());
  return Output(
      Attend(SplitHeads(q, input.rows, heads_), SplitHeads(kv[0], memory.rows, kv_heads_),
             SplitHeads(kv[1], memory.rows, kv_heads_), memory.key_mask, OptionsOf(input, context)),
      input);
}

}  // namespace weft
