#include "worker/bench/simulated_model.h"

#include <ATen/ops/ones.h>
#include <torch/csrc/autograd/custom_function.h>

#include <chrono>
#include <string>
#include <thread>
#include <utility>

namespace weft {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kWidth = 256;

void Sleep(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

// y = x, slowly; so is the gradient of x, and that of the parameter.
struct SlowIdentity : torch::autograd::Function<SlowIdentity> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& /*anchor*/,
                            Parameter* parameter, double seconds) {
    ctx->saved_data["parameter"] = reinterpret_cast<int64_t>(parameter);
    ctx->saved_data["seconds"] = seconds;
    Sleep(seconds);
    return x.clone();
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    auto* parameter = reinterpret_cast<Parameter*>(ctx->saved_data["parameter"].toInt());
    const double seconds = ctx->saved_data["seconds"].toDouble();
    Sleep(seconds);
    parameter->Accumulate([seconds](const at::Tensor& sum) {
      Sleep(seconds);
      sum.add_(1);
    });
    return {grads[0], {}, {}, {}};
  }
};

class SlowBlock : public Block {
 public:
  SlowBlock(const BlockSpec& spec, double seconds, bool last, ParameterStore* store)
      : Block(spec, {store->Get(spec.params[0].name)}), seconds_(seconds), last_(last) {
    parameters()[0]->UseDirectGradient();
  }
  std::vector<at::Tensor> Forward(std::span<const at::Tensor> inputs,
                                  const MicroBatchContext&) override {
    Parameter* parameter = parameters()[0];
    const at::Tensor y = SlowIdentity::apply(inputs[0], parameter->anchor, parameter, seconds_);
    return {last_ ? y.sum() : y};
  }

 private:
  double seconds_;
  bool last_;
};

}  // namespace

ModelSpec MakeSimulatedSpec(const SimulatedCosts& costs) {
  ModelSpec spec;
  spec.family = "simulated";
  for (int b = 0; b < costs.blocks; ++b) {
    BlockSpec block;
    block.name = "block." + std::to_string(b);
    ParamSpec param;
    param.name = block.name + ".weight";
    param.shape = {kWidth};
    param.owner = block.name;
    block.params = {param};
    block.forward_flops = 1;
    const std::string input = b == 0 ? "x" : spec.blocks.back().outputs[0].name;
    block.inputs = {{.name = input, .dims = {kWidth}, .differentiable = b > 0}};
    const bool last = b + 1 == costs.blocks;
    block.outputs = {last ? ActivationSpec{.name = "loss", .dims = {}}
                          : ActivationSpec{.name = block.name + ".out", .dims = {kWidth}}};
    spec.blocks.push_back(std::move(block));
  }
  return spec;
}

std::unique_ptr<Model> MakeSimulatedModel(const SimulatedCosts& costs, const ModelSpec& spec,
                                          ParameterStore* store) {
  auto model = std::make_unique<Model>();
  model->spec = spec;
  for (size_t b = 0; b < spec.blocks.size(); ++b) {
    const BlockSpec& block = spec.blocks[b];
    model->blocks.push_back(
        store->Holds(block.params)
            ? std::make_unique<SlowBlock>(block, costs.seconds, b + 1 == spec.blocks.size(), store)
            : nullptr);
  }
  Wave wave;
  wave.name = "train";
  wave.end_block = static_cast<int>(spec.blocks.size());
  wave.losses = {{"loss", "loss", LossScope::kGlobal,
                  [](const NamedTensors& inputs) { return inputs.at("x").numel(); }}};
  model->objective.waves = {wave};
  model->objective.phases = {{PhaseKind::kTrain, "train"}};
  return model;
}

NamedTensors SimulatedBatch(int64_t samples) {
  return {{"x", at::ones({samples, kWidth}, at::kFloat)}};
}

}  // namespace weft
