#include "models/layers/mlp.h"

#include <vector>

#include "models/layers/activation.h"

namespace weft {
namespace {

std::vector<LinearParameters> UpLayers(const MlpParameters& p, Activation activation) {
  if (activation == Activation::kSwiGlu) return {p.gate, p.up};
  return {p.up};
}

}  // namespace

Mlp::Mlp(const MlpParameters& parameters, Activation activation, const TensorAxis& axis)
    : activation_(activation),
      up_(UpLayers(parameters, activation), axis),
      down_(parameters.down, axis) {}

at::Tensor Mlp::operator()(const at::Tensor& x, const TokenRows& rows) const {
  const std::vector<at::Tensor> hidden = up_(x, rows.all());
  switch (activation_) {
    case Activation::kQuickGelu:
      return down_(QuickGelu(hidden[0]));
    case Activation::kGelu:
      return down_(Gelu(hidden[0]));
    case Activation::kSwiGlu:
      return down_(SiluTimes(hidden[0], hidden[1]));
  }
  return {};
}

}  // namespace weft
