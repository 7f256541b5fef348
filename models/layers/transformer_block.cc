#include "models/layers/transformer_block.h"

#include <ATen/ops/add.h>

#include <utility>

#include "cluster/base/logging.h"

namespace weft {
namespace {

std::string NameOf(const BlockSpec& block, const std::string& name) {
  return name.empty() ? name : block.name + "." + name;
}

AttentionParameters AttentionOf(const BlockSpec& block, const TransformerNames& names,
                                ParameterStore* store) {
  return {LinearOf(NameOf(block, names.qkv), store), LinearOf(NameOf(block, names.q), store),
          LinearOf(NameOf(block, names.k), store), LinearOf(NameOf(block, names.v), store),
          LinearOf(NameOf(block, names.out), store)};
}

MlpParameters MlpOf(const BlockSpec& block, const TransformerNames& names, ParameterStore* store) {
  return {LinearOf(NameOf(block, names.up), store), LinearOf(NameOf(block, names.gate), store),
          LinearOf(NameOf(block, names.down), store)};
}

AttentionOptions AttentionOptionsOf(const BlockSpec& block, const TransformerOptions& options) {
  AttentionOptions attention;
  attention.site = block.name + ".attn";
  attention.heads = options.heads;
  attention.kv_heads = options.kv_heads == 0 ? options.heads : options.kv_heads;
  attention.causal = options.causal;
  attention.padding_last = options.padding_last;
  attention.rope_theta = options.rope_theta;
  attention.dropout = options.attention_dropout;
  attention.most_tokens = block.inputs[0].dims[0];
  return attention;
}

}  // namespace

std::vector<Parameter*> ParametersOf(const std::vector<ParamSpec>& specs, ParameterStore* store) {
  std::vector<Parameter*> parameters;
  for (const ParamSpec& spec : specs) parameters.push_back(store->Get(spec.name));
  return parameters;
}

LinearParameters LinearOf(const std::string& name, ParameterStore* store) {
  if (name.empty()) return {};
  for (const char* separator : {".", "_"}) {
    Parameter* weight = store->Find(name + separator + "weight");
    if (weight != nullptr) return {weight, store->Find(name + separator + "bias")};
  }
  WEFT_CHECK(false) << "no parameter is named " << name << ".weight";
  return {};
}

TransformerBlock::Norm TransformerBlock::MakeNorm(const TransformerOptions& options,
                                                  const std::string& name, ParameterStore* store) {
  if (options.norm == NormKind::kRmsNorm)
    return RmsNorm(store->Get(name + ".weight"), options.norm_eps);
  return LayerNorm(store->Get(name + ".weight"), store->Get(name + ".bias"), options.norm_eps);
}

TransformerBlock::TransformerBlock(BlockSpec block, const TransformerOptions& options,
                                   const TensorAxis& axis, ParameterStore* store)
    : Block(block, ParametersOf(block.params, store)),
      options_(options),
      axis_(axis),
      norm_1_(MakeNorm(options, NameOf(block, options.names.norm_1), store)),
      attention_(AttentionOf(block, options.names, store), AttentionOptionsOf(block, options),
                 axis),
      norm_2_(MakeNorm(options, NameOf(block, options.names.norm_2), store)),
      mlp_(MlpOf(block, options.names, store), options.activation, axis) {}

// What a residual sum adds: dropped by elements, then by samples.
at::Tensor TransformerBlock::Dropped(const at::Tensor& x, const TokenRows& rows,
                                     const MicroBatchContext& context, const char* number) const {
  const Dropout hidden =
      DropoutAt(context, spec().name + ".hidden" + number, options_.hidden_dropout);
  const Dropout path = DropoutAt(context, spec().name + ".path" + number, options_.drop_path);
  return DropPath(ApplyDropout(x, hidden, rows.Runs(context, x.size(-1))), path, context,
                  rows.tokens, rows.own.offset);
}

std::vector<at::Tensor> TransformerBlock::Forward(std::span<const at::Tensor> inputs,
                                                  const MicroBatchContext& context) {
  at::Tensor x = inputs[0];
  const bool split = x.dim() == 2;
  const int64_t tokens = split ? spec().inputs[0].dims[0] : x.size(1);
  const TokenRows rows(split ? context.samples : x.size(0), tokens, axis_);
  const at::Tensor key_mask = options_.key_mask ? inputs[1] : at::Tensor();
  const at::Tensor segment_at = options_.segments ? inputs[1] : at::Tensor();
  const auto norm = [](const Norm& layer, const at::Tensor& value) {
    return std::visit([&](const auto& n) { return n(value); }, layer);
  };
  const auto attend = [&](const at::Tensor& value) {
    return Dropped(attention_({value, rows, key_mask, segment_at}, context), rows, context, "1");
  };
  const auto feed = [&](const at::Tensor& value) {
    return Dropped(mlp_(value, rows), rows, context, "2");
  };
  if (options_.norm_place == NormPlace::kBefore) {
    x = at::add(attend(norm(norm_1_, x)), x);
    x = at::add(feed(norm(norm_2_, x)), x);
  } else {
    x = norm(norm_1_, at::add(attend(x), x));
    x = norm(norm_2_, at::add(feed(x), x));
  }
  return {x};
}

}  // namespace weft
