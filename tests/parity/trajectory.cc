#include "tests/parity/trajectory.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <thread>
#include <utility>

#include "cluster/base/mutex.h"
#include "cluster/comm/mesh_communicators.h"
#include "models/spec/model_spec.h"
#include "tests/support/golden.h"
#include "worker/bench/synthetic_batch.h"
#include "worker/train_step.h"

namespace weft::testing {
namespace {

// Long runs see the same batches again, so that there is something to learn.
constexpr int64_t kBatches = 8;

StatePiece PieceOf(const StateSlice& slice) {
  StatePiece piece;
  piece.name = slice.name;
  piece.shape = slice.global_shape;
  piece.box = slice.box;
  piece.flat_begin = slice.flat_begin;
  const int64_t count = slice.flat_end - slice.flat_begin;
  const at::ScalarType type = std::strcmp(slice.dtype, "f64") == 0   ? at::kDouble
                              : std::strcmp(slice.dtype, "f32") == 0 ? at::kFloat
                                                                     : at::kBFloat16;
  const at::Tensor values = at::from_blob(slice.data, {count}, type).to(at::kDouble);
  const auto* data = values.const_data_ptr<double>();
  piece.values.assign(data, data + count);
  return piece;
}

// Row-major index in the whole tensor of element `flat` of the box.
int64_t GlobalIndex(const StatePiece& piece, int64_t flat) {
  int64_t index = 0;
  int64_t stride = 1;
  for (size_t d = piece.shape.size(); d-- > 0;) {
    index += (piece.box.offsets[d] + flat % piece.box.lengths[d]) * stride;
    flat /= piece.box.lengths[d];
    stride *= piece.shape[d];
  }
  return index;
}

Status Place(const StatePiece& piece, Trajectory* trajectory) {
  at::Tensor& whole = trajectory->state[piece.name];
  if (!whole.defined()) whole = at::full(piece.shape, std::nan(""), at::kDouble);
  auto* out = whole.data_ptr<double>();
  for (size_t i = 0; i < piece.values.size(); ++i) {
    double& element = out[GlobalIndex(piece, piece.flat_begin + static_cast<int64_t>(i))];
    if (!std::isnan(element)) return Internal(piece.name + ": two ranks save the same element");
    element = piece.values[i];
  }
  return OkStatus();
}

// LibTorch's messages go on with a stack.
std::string FirstLine(const std::string& text) { return text.substr(0, text.find('\n')); }

double RelativeError(double a, double b) { return std::abs(a - b) / std::max(std::abs(b), 1e-3); }

}  // namespace

StatusOr<RankPart> RunParityRank(const Recipe& recipe, const AxisCommunicators& axes) {
  WEFT_ASSIGN_OR_RETURN(ModelSpec spec, MakeModelSpec(recipe));
  WEFT_RETURN_IF_ERROR(
      ApplyTrainable({recipe.trainable().begin(), recipe.trainable().end()}, &spec));
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<RankState> rank,
                        RankState::Create(recipe, std::move(spec), axes));
  rank->parameters().FillAll(GoldenFill);
  WEFT_RETURN_IF_ERROR(rank->parameters().Publish());
  RankPart part;
  for (int64_t step = 0; step < recipe.steps(); ++step) {
    const std::vector<NamedTensors> batches =
        SyntheticBatches(recipe, rank->parallel().slots(), step % kBatches);
    WEFT_ASSIGN_OR_RETURN(const StepResult result, TrainStepOn(rank.get(), step, batches));
    part.losses.push_back(result.loss);
    part.norms.push_back(result.grad_norm);
  }
  for (const StateSlice& slice : rank->optimizer().ExportState())
    part.state.push_back(PieceOf(slice));
  return part;
}

StatusOr<Trajectory> RunOnThreads(const Recipe& recipe) {
  const ParallelDims dims{
      .pp = recipe.layout().pp(), .dp = recipe.layout().dp(), .tp = recipe.layout().tp()};
  WEFT_ASSIGN_OR_RETURN(std::vector<MeshCommunicators> mesh, MakeInProcessMesh(dims));
  std::vector<RankPart> parts(mesh.size());
  Mutex mutex;
  Status first;
  std::vector<std::thread> threads;
  for (size_t r = 0; r < mesh.size(); ++r) {
    threads.emplace_back([&, r] {
      AxisCommunicators axes;
      axes.dp = mesh[r].dp.get();
      axes.tp = mesh[r].tp.get();
      axes.pp = mesh[r].pp.get();
      StatusOr<RankPart> part = Internal("not run");
      try {
        part = RunParityRank(recipe, axes);
      } catch (const std::exception& error) {
        part = Internal(FirstLine(error.what()));
      }
      if (part.ok()) {
        parts[r] = std::move(*part);
        return;
      }
      {
        const MutexLock lock(mutex);
        if (first.ok()) first = part.status().WithContext("rank " + std::to_string(r));
      }
      mesh[r].Abort(part.status());
    });
  }
  for (std::thread& thread : threads) thread.join();
  WEFT_RETURN_IF_ERROR(first);
  return Assemble(parts);
}

StatusOr<Trajectory> Assemble(const std::vector<RankPart>& parts) {
  Trajectory trajectory;
  trajectory.losses = parts[0].losses;
  trajectory.norms = parts[0].norms;
  for (const RankPart& part : parts) {
    if (part.losses != trajectory.losses) return Internal("ranks report different losses");
    if (part.norms != trajectory.norms) return Internal("ranks report different norms");
    for (const StatePiece& piece : part.state) WEFT_RETURN_IF_ERROR(Place(piece, &trajectory));
  }
  for (const auto& [name, tensor] : trajectory.state) {
    if (at::isnan(tensor).any().item<bool>())
      return Internal(name + ": an element is NaN, or no rank saves it");
  }
  return trajectory;
}

double MaxRelativeError(const Trajectory& a, const Trajectory& b) {
  if (a.state.size() != b.state.size() || a.losses.size() != b.losses.size())
    return std::numeric_limits<double>::infinity();
  double most = 0;
  for (size_t i = 0; i < a.losses.size(); ++i) {
    most = std::max(most, RelativeError(a.losses[i], b.losses[i]));
    most = std::max(most, RelativeError(a.norms[i], b.norms[i]));
  }
  for (const auto& [name, tensor] : a.state) {
    const auto other = b.state.find(name);
    if (other == b.state.end()) return std::numeric_limits<double>::infinity();
    const double floor = 1e-3 * std::sqrt(static_cast<double>(tensor.numel()));
    const double norm = other->second.norm().item<double>();
    most = std::max(most, (tensor - other->second).norm().item<double>() / std::max(norm, floor));
  }
  return most;
}

bool SameBits(const Trajectory& a, const Trajectory& b) {
  if (a.losses != b.losses || a.norms != b.norms || a.state.size() != b.state.size()) return false;
  for (const auto& [name, tensor] : a.state) {
    const auto other = b.state.find(name);
    if (other == b.state.end() || !at::equal(tensor, other->second)) return false;
  }
  return true;
}

}  // namespace weft::testing
