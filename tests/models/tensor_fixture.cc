#include "tests/models/tensor_fixture.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include "models/spec/tp_slice.h"
#include "parallel/tensor/collectives.h"
#include "tests/support/golden.h"

namespace weft::testing {
namespace {

// What the store is told: slices as whole parameters.
std::vector<ParamSpec> LocalSpecs(const std::vector<ParamSpec>& specs, const TensorAxis& axis) {
  std::vector<ParamSpec> local = specs;
  for (ParamSpec& spec : local) {
    spec.shape = LocalShape(spec, axis.size, axis.rank);
    spec.tp_dim = -1;
    spec.tp_sections = 1;
  }
  return local;
}

at::Tensor WholeValue(const ParamSpec& spec, double gain) {
  at::Tensor whole = at::empty(spec.shape, at::kDouble);
  GoldenFill(spec, 0, spec.NumElements(), whole.data_ptr<double>());
  return whole.dim() == 1 ? whole : whole.mul_(gain);
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
      context(ParallelOptions{}),
      specs(global),
      store(LocalSpecs(global, tensor_axis), precision, &context) {
  std::map<std::string, at::Tensor> values;
  for (const ParamSpec& spec : specs)
    values[spec.name] = SliceOf(spec, WholeValue(spec, gain)).contiguous();
  store.FillAll([&](const ParamSpec& spec, int64_t begin, int64_t end, double* out) {
    const double* from = values.at(spec.name).const_data_ptr<double>();
    std::copy(from + begin, from + end, out);
  });
  // Layers read whole shapes and splits from the spec.
  for (const ParamSpec& spec : specs) store.Get(spec.name)->spec = spec;
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
