#include "tests/models/tensor_fixture.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include "models/spec/tp_slice.h"
#include "parallel/tensor/collectives.h"
#include "tests/support/golden.h"

namespace weft::testing {
namespace {

ParallelOptions OptionsOf(const TensorAxis& axis) {
  ParallelOptions options;
  options.tp = axis.comm;
  options.sequence_parallel = axis.sequence;
  options.timeout = axis.timeout;
  return options;
}

}  // namespace

at::Tensor Numbers(std::vector<int64_t> sizes, double phase, at::ScalarType type) {
  int64_t n = 1;
  for (const int64_t size : sizes) n *= size;
  return at::arange(n, at::kDouble).mul(0.7 + phase).sin().mul(3).view(sizes).to(type);
}

double RelativeError(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return 1e300;
  const double norm = b.norm().item<double>();
  const double error = (a.to(at::kDouble) - b.to(at::kDouble)).norm().item<double>();
  return error == 0 ? 0 : error / std::max(norm, 1e-300);
}

TensorRank::TensorRank(const std::vector<ParamSpec>& global, const TensorAxis& tensor_axis,
                       Precision precision, double gain)
    : axis(tensor_axis),
      context(OptionsOf(tensor_axis)),
      specs(global),
      store(global, precision, &context) {
  store.FillAll([gain](const ParamSpec& spec, int64_t begin, int64_t end, double* out) {
    GoldenFill(spec, begin, end, out);
    if (spec.shape.size() == 1) return;
    for (int64_t i = 0; i < end - begin; ++i) out[i] *= gain;
  });
}

at::Tensor TensorRank::SliceOf(const ParamSpec& spec, const at::Tensor& whole) const {
  if (spec.tp_dim < 0) return whole;
  std::vector<at::Tensor> parts;
  for (const TensorBox& box : TpBoxes(spec, axis.size, axis.rank)) {
    const auto dim = static_cast<size_t>(spec.tp_dim);
    parts.push_back(whole.narrow(spec.tp_dim, box.offsets[dim], box.lengths[dim]));
  }
  return at::cat(parts, spec.tp_dim);
}

std::vector<at::Tensor> TensorRank::Backward(const std::vector<at::Tensor>& outputs,
                                             const std::vector<at::Tensor>& inputs,
                                             const std::vector<at::Tensor>& grads) {
  std::vector<at::Tensor> leaves = inputs;
  for (const auto& parameter : store.parameters())
    leaves.push_back(parameter->direct ? parameter->anchor : parameter->value);
  std::vector<at::Tensor> result =
      torch::autograd::grad(outputs, leaves, grads, /*retain_graph=*/false, /*create_graph=*/false,
                            /*allow_unused=*/true);
  for (size_t i = 0; i < store.parameters().size(); ++i) {
    const at::Tensor& grad = result[inputs.size() + i];
    if (!store.parameters()[i]->direct && grad.defined())
      store.parameters()[i]->main_grad.add_(grad);
  }
  result.resize(inputs.size());
  return result;
}

std::map<std::string, at::Tensor> TensorRank::Gradients() {
  std::map<std::string, at::Tensor> gradients;
  for (const ParamSpec& spec : specs) {
    const at::Tensor grad = store.Get(spec.name)->main_grad;
    const int replicas = spec.tp_dim < 0 ? 1 : TpReplicas(spec, axis.size);
    at::Tensor sum = grad.clone();
    if (spec.sequence_partial && axis.sequence) {
      sum = SumOverTensor(grad, axis, "test.partial");
    } else if (replicas > 1) {
      const at::Tensor all = AllRowsOfOwn(grad.unsqueeze(0), axis.size, axis, "test.replicas");
      sum = all.narrow(0, axis.rank / replicas * replicas, replicas).sum(0);
    }
    gradients[spec.name] = sum;
  }
  return gradients;
}

TensorAxis AxisOf(Communicator& comm, bool sequence) {
  return {&comm, comm.rank(), comm.size(), sequence, std::chrono::seconds(30)};
}

}  // namespace weft::testing
