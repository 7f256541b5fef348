#include "models/layers/transformer_block.h"

#include <ATen/ops/add.h>

#include <utility>

#include "models/layers/activation.h"

namespace weft {
namespace {

LayerNorm MakeNorm(ParameterStore* store, const std::string& name, double eps) {
  return {store->Get(name + ".weight"), store->Get(name + ".bias"), eps};
}

Linear MakeLinear(ParameterStore* store, const std::string& name) {
  return {store->Get(name + ".weight"), store->Get(name + ".bias")};
}

}  // namespace

std::vector<Parameter*> ParametersOf(const std::vector<ParamSpec>& specs, ParameterStore* store) {
  std::vector<Parameter*> parameters;
  for (const ParamSpec& spec : specs) parameters.push_back(store->Get(spec.name));
  return parameters;
}

TransformerBlock::TransformerBlock(BlockSpec block, const TransformerOptions& options,
                                   ParameterStore* store)
    : Block(block, ParametersOf(block.params, store)),
      ln_1_(MakeNorm(store, block.name + ".ln_1", options.norm_eps)),
      attention_(Linear(store->Get(block.name + ".attn.in_proj_weight"),
                        store->Get(block.name + ".attn.in_proj_bias")),
                 MakeLinear(store, block.name + ".attn.out_proj"), options.heads, options.causal),
      ln_2_(MakeNorm(store, block.name + ".ln_2", options.norm_eps)),
      c_fc_(MakeLinear(store, block.name + ".mlp.c_fc")),
      c_proj_(MakeLinear(store, block.name + ".mlp.c_proj")) {}

std::vector<at::Tensor> TransformerBlock::Forward(std::span<const at::Tensor> inputs,
                                                  const MicroBatchContext& /*context*/) {
  at::Tensor x = inputs[0];
  x = at::add(attention_(ln_1_(x)), x);
  x = at::add(c_proj_(QuickGelu(c_fc_(ln_2_(x)))), x);
  return {x};
}

}  // namespace weft
