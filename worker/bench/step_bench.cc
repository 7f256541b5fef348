#include "worker/bench/step_bench.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <memory>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include "cluster/base/mutex.h"
#include "cluster/comm/mesh_communicators.h"
#include "models/registry.h"
#include "models/spec/placement.h"
#include "parallel/device/compute_device.h"
#include "worker/bench/peaks.h"
#include "worker/bench/synthetic_batch.h"
#include "worker/rank_state.h"
#include "worker/train_step.h"

namespace weft {
namespace {

constexpr int kWarmUp = 2;
// Of each rank, in all measured steps.
constexpr size_t kRecordedOperations = 1 << 16;

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// What one rank measured.
struct RankReport {
  double seconds = 0;
  std::map<std::string, double> waits;
  std::vector<TimelineEntry> timeline;
  ProgramSpec program;
  // When the measured steps began.
  TimePoint began;
  MemoryReport memory;
};

StatusOr<ModelSpec> MakeSpec(const Recipe& recipe) {
  WEFT_ASSIGN_OR_RETURN(ModelSpec spec, MakeModelSpec(recipe));
  WEFT_RETURN_IF_ERROR(
      ApplyTrainable({recipe.trainable().begin(), recipe.trainable().end()}, &spec));
  return spec;
}

StatusOr<std::unique_ptr<RankState>> MakeRank(const StepBenchOptions& options,
                                              const AxisCommunicators& axes) {
  if (options.simulated) {
    const SimulatedCosts costs = *options.simulated;
    return RankState::Create(options.recipe, MakeSimulatedSpec(costs), axes,
                             [costs](const Recipe&, const ModelSpec& spec,
                                     ParameterStore* store) -> StatusOr<std::unique_ptr<Model>> {
                               return MakeSimulatedModel(costs, spec, store);
                             });
  }
  WEFT_ASSIGN_OR_RETURN(ModelSpec spec, MakeSpec(options.recipe));
  return RankState::Create(options.recipe, std::move(spec), axes);
}

std::vector<NamedTensors> MakeBatches(const StepBenchOptions& options,
                                      const std::vector<int>& slots) {
  if (!options.simulated) return SyntheticBatches(options.recipe, slots, 0);
  const BatchRecipe& batch = options.recipe.batch();
  return std::vector<NamedTensors>(slots.size() * static_cast<size_t>(batch.micro_batches()),
                                   SimulatedBatch(batch.micro_batch_size()));
}

StatusOr<RankReport> RunRank(const StepBenchOptions& options, const AxisCommunicators& axes) {
  MemoryMeter meter;
  const MeterThread attached(&meter);
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<RankState> rank, MakeRank(options, axes));
  rank->parameters().Initialize(options.recipe.seed());
  WEFT_RETURN_IF_ERROR(rank->parameters().Publish());
  const std::vector<NamedTensors> batches = MakeBatches(options, rank->parallel().slots());
  RankReport report;
  double start = 0;
  for (int step = 0; step < kWarmUp + options.steps; ++step) {
    int64_t together = 0;
    WEFT_RETURN_IF_ERROR(
        rank->parallel().AllReduceWorld(&together, 1, ReduceOp::kMax, "step.flags"));
    if (step == kWarmUp) {
      start = Now();
      report.began = Clock::now();
      rank->parallel().TakeWaits();
    }
    WEFT_RETURN_IF_ERROR(rank->engine().RunStep(step, batches).status());
    WEFT_RETURN_IF_ERROR(rank->gradients().Finish());
    WEFT_RETURN_IF_ERROR(rank->optimizer().Step(1e-4, rank->gradients()));
  }
  axes.device.Synchronize();
  report.seconds = (Now() - start) / options.steps;
  report.waits = rank->parallel().TakeWaits();
  for (auto& [name, seconds] : report.waits) seconds /= options.steps;
  report.timeline = rank->engine().timeline();
  report.program = rank->engine().program_spec();
  report.memory = meter.Report();
  return report;
}

bool IsOverDp(const std::string& operation) {
  return operation.find("grads.exchange") != std::string::npos ||
         operation.find("parameters.gather") != std::string::npos;
}

// Seconds that operations over dp took since `began`, from when they began to when they ended.
double DpSeconds(const FlightRecorder& recorder, TimePoint began) {
  double seconds = 0;
  for (const FlightRecorder::Entry& entry : recorder.Entries()) {
    if (entry.started >= began && entry.state == FlightRecorder::State::kDone &&
        IsOverDp(entry.operation))
      seconds += ToSeconds(entry.ended - entry.started);
  }
  return seconds;
}

// The mean costs of a stage, as the timeline shows them.
StageCosts MeanCosts(const Timeline& timeline) {
  StageCosts sums;
  double forwards = 0;
  double backwards = 0;
  double weights = 0;
  for (const auto& rank : timeline.ranks) {
    for (const TimelineEntry& entry : rank) {
      const double seconds = entry.end - entry.start;
      if (entry.action.kind == ActionKind::kForward) {
        sums.forward += seconds;
        ++forwards;
      } else if (entry.action.kind == ActionKind::kBackwardWeight) {
        sums.backward_weight += seconds;
        ++weights;
      } else if (entry.action.kind != ActionKind::kJoin) {
        sums.backward_input += seconds;
        ++backwards;
      }
    }
  }
  if (forwards > 0) sums.forward /= forwards;
  if (backwards > 0) sums.backward_input /= backwards;
  if (weights > 0) sums.backward_weight /= weights;
  return sums;
}

StepBenchReport Summarise(const StepBenchOptions& options, const Mesh& mesh,
                          const std::vector<RankReport>& ranks,
                          const std::vector<std::unique_ptr<FlightRecorder>>& recorders) {
  StepBenchReport report;
  const BatchRecipe& batch = options.recipe.batch();
  report.samples =
      static_cast<double>(batch.slots()) * batch.micro_batches() * batch.micro_batch_size();
  const auto count = static_cast<double>(ranks.size());
  std::vector<std::vector<TimelineEntry>> pipeline;
  for (size_t r = 0; r < ranks.size(); ++r) {
    report.step_seconds = std::max(report.step_seconds, ranks[r].seconds);
    report.dp_seconds += DpSeconds(*recorders[r], ranks[r].began) / options.steps / count;
    for (const auto& [name, seconds] : ranks[r].waits) {
      report.waits[name] += seconds / count;
      if (IsOverDp(name)) report.dp_waited += seconds / count;
    }
    if (ranks[r].memory.total.peak > report.memory.total.peak) report.memory = ranks[r].memory;
    const Coordinate at = mesh.CoordinateOf(static_cast<int>(r));
    if (at.dp == 0 && at.tp == 0) pipeline.push_back(ranks[r].timeline);
  }
  report.timeline = MakeTimeline(std::move(pipeline));
  report.bubble = report.timeline.bubble;
  report.ideal_bubble = IdealBubble(ranks[0].program, MeanCosts(report.timeline));
  return report;
}

at::ScalarType ComputeType(Precision precision) {
  return precision == BF16 ? at::kBFloat16 : precision == FP64 ? at::kDouble : at::kFloat;
}

// One rank's peak, with the threads and the type of the recipe.
Status AddFlops(const StepBenchOptions& options, const ComputeDevice& device, int ranks,
                StepBenchReport* report) {
  WEFT_ASSIGN_OR_RETURN(const ModelSpec spec, MakeSpec(options.recipe));
  const std::vector<double> costs = BlockCosts(spec);
  report->flops_per_second =
      std::accumulate(costs.begin(), costs.end(), 0.0) * report->samples / report->step_seconds;
  report->mfu = report->flops_per_second / ranks /
                MatmulFlops(device, ComputeType(options.recipe.precision()));
  return OkStatus();
}

StatusOr<ComputeDevice> OpenDevice(const StepBenchOptions& options, const ParallelDims& dims) {
  if (options.device < 0) return ComputeDevice();
  if (dims.world_size() > 1) {
    return InvalidArgument(
        "--device: ranks as threads would wait for each other on one device (LibTorch has one "
        "thread for "
        "all its backward passes); measure one rank");
  }
  return ComputeDevice::Open(options.device);
}

}  // namespace

StatusOr<StepBenchReport> BenchStep(const StepBenchOptions& options) {
  WEFT_ASSIGN_OR_RETURN(const ParallelDims dims, MakeParallelDims(options.recipe));
  WEFT_ASSIGN_OR_RETURN(const ComputeDevice device, OpenDevice(options, dims));
  std::vector<std::unique_ptr<FlightRecorder>> recorders;
  std::vector<FlightRecorder*> pointers;
  for (int r = 0; r < dims.world_size(); ++r) {
    recorders.push_back(std::make_unique<FlightRecorder>(kRecordedOperations));
    pointers.push_back(recorders.back().get());
  }
  WEFT_ASSIGN_OR_RETURN(std::vector<MeshCommunicators> mesh, MakeInProcessMesh(dims, pointers));
  std::vector<RankReport> reports(mesh.size());
  Mutex mutex;
  Status first;
  const auto run = [&](size_t r) {
    device.Enter();
    AxisCommunicators axes;
    axes.device = device;
    axes.dp = mesh[r].dp.get();
    axes.tp = mesh[r].tp.get();
    axes.pp = mesh[r].pp.get();
    StatusOr<RankReport> report = Internal("not run");
    try {
      report = RunRank(options, axes);
    } catch (const std::exception& error) {
      report = Internal(error.what());
    }
    if (report.ok()) {
      reports[r] = std::move(*report);
      return;
    }
    {
      const MutexLock lock(mutex);
      if (first.ok()) first = report.status().WithContext("rank " + std::to_string(r));
    }
    mesh[r].Abort(report.status());
  };
  std::vector<std::thread> threads;
  for (size_t r = 0; r < mesh.size(); ++r) threads.emplace_back(run, r);
  for (std::thread& thread : threads) thread.join();
  WEFT_RETURN_IF_ERROR(first);
  StepBenchReport report = Summarise(options, Mesh(dims), reports, recorders);
  if (!options.simulated)
    WEFT_RETURN_IF_ERROR(AddFlops(options, device, dims.world_size(), &report));
  return report;
}

}  // namespace weft
