// `make parity`: every model under every layout against one process. One row a run, a table and
// build/reports/parity.json; exit 1 if a row fails.
//
// fp64: all layouts with ranks as threads. tcp, nccl: six as processes over that backend; nccl on its double, also with sums by
// NCCL itself (deterministic: false), which promise no bits; not in a build with CUDA, whose programs have no doubles. bf16:
// six layouts, 100 steps, means of the loss over ten steps against fp32. six (a test): these six in fp64, as threads.
//
//   weft_parity [--models clip,roberta,llava] [--kinds fp64,tcp,nccl,bf16] [--layouts 60] [--jobs 2] [--only NAME] [--json FILE]
//               [--device CPU|CUDA]
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cluster/base/logging.h"
#include "cluster/base/mutex.h"
#include "cluster/base/text.h"
#include "parallel/memory.h"
#include "tests/parity/parity_layouts.h"
#include "tests/parity/parity_models.h"
#include "tests/parity/process_run.h"
#include "tests/parity/trajectory.h"

namespace weft::testing {
namespace {

// fp64: relative error of any tensor. bf16: of a mean of the loss over ten steps.
constexpr double kTolerance = 1e-9;
constexpr double kBf16Tolerance = 1e-2;
constexpr int kBf16Steps = 100;
constexpr int kWindow = 10;

struct Arguments {
  std::string program;
  std::vector<std::string> models = {"clip", "roberta", "llava", "llava-packed"};
#ifdef WEFT_PARITY_NCCL
  std::vector<std::string> kinds = {"fp64", "tcp", "nccl", "bf16"};
#else
  std::vector<std::string> kinds = {"fp64", "tcp", "bf16"};
#endif
  // Of ranks as processes.
  Device device = CPU;
  int layouts = 60;
  // Runs at a time.
  int jobs = 2;
  // Substring of a layout's name.
  std::string only;
  std::string json;
};

struct Row {
  std::string model;
  std::string layout;
  std::string dtype = "fp64";
  double max_rel_err = 0;
  bool bits_promised = false;
  bool bits_equal = false;
  std::string error;
  double seconds = 0;

  bool ok() const {
    const double tolerance = dtype == "bf16" ? kBf16Tolerance : kTolerance;
    return error.empty() && max_rel_err <= tolerance && (bits_equal || !bits_promised);
  }
};

void Print(const Row& row) {
  std::printf("%-12s %-62s %-5s %9.2e  %-8s %6.1f s  %s\n", row.model.c_str(), row.layout.c_str(),
              row.dtype.c_str(), row.max_rel_err,
              row.bits_equal      ? "equal"
              : row.bits_promised ? "DIFFER"
                                  : "differ",
              row.seconds, row.ok() ? "ok" : ("FAILED " + row.error).c_str());
  std::fflush(stdout);
}

Recipe WithLayout(Recipe recipe, const ParityLayout& layout) {
  *recipe.mutable_layout() = layout.layout;
  recipe.mutable_batch()->set_keep_wave(layout.keep_wave);
  return recipe;
}

ParityLayout Make(int dp, int tp, int pp) {
  ParityLayout layout;
  layout.layout.set_dp(dp);
  layout.layout.set_tp(tp);
  layout.layout.set_pp(pp);
  return layout;
}

// What real processes and bf16 run: each axis alone, and all of them together.
std::vector<ParityLayout> SixLayouts() {
  std::vector<ParityLayout> layouts = {Make(2, 1, 1), Make(1, 2, 1), Make(1, 1, 2),
                                       Make(2, 2, 1), Make(2, 1, 2), Make(2, 2, 2)};
  layouts[1].layout.set_sequence_parallel(true);
  layouts[3].layout.set_zero_stage(3);
  layouts[4].layout.set_schedule(ZB_H1);
  layouts[4].layout.set_zero_stage(2);
  layouts[5].layout.set_recompute(RECOMPUTE_FULL);
  return layouts;
}

// Each collective that deterministic: false has of its own: a reduce_scatter, and an all_reduce for copies of shards.
std::vector<ParityLayout> SummedByTheBackend() {
  std::vector<ParityLayout> layouts = {Make(3, 1, 1), Make(4, 1, 1)};
  layouts[1].layout.set_shard_ranks(2);
  return layouts;
}

// The largest error of a mean over kWindow steps.
double WindowError(const std::vector<double>& a, const std::vector<double>& b) {
  double most = 0;
  for (size_t begin = 0; begin + kWindow <= b.size(); begin += kWindow) {
    double sum_a = 0;
    double sum_b = 0;
    for (size_t i = begin; i < begin + kWindow; ++i) {
      sum_a += a[i];
      sum_b += b[i];
    }
    most = std::max(most, std::abs(sum_a - sum_b) / std::abs(sum_b));
  }
  return most;
}

// Runs `run` into the row, with its time.
template <typename F>
StatusOr<Trajectory> Timed(Row* row, const F& run) {
  const auto start = std::chrono::steady_clock::now();
  StatusOr<Trajectory> result = run();
  row->seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!result.ok()) row->error = result.status().message();
  return result;
}

class ModelParity {
 public:
  ModelParity(const std::string& model, const Arguments& arguments)
      : model_(model), arguments_(arguments), recipe_(ParityRecipe(model)) {}

  Status Run(std::vector<Row>* rows) {
    WEFT_ASSIGN_OR_RETURN(const ModelSpec spec, MakeModelSpec(recipe_));
    WEFT_ASSIGN_OR_RETURN(alone_, RunOnThreads(recipe_));
    references_.emplace(ParityLayout().BitsKey(), alone_);
    if (Wants("fp64")) {
      for (const ParityLayout& layout :
           ParityLayouts(static_cast<int>(spec.blocks.size()), !spec.joins.empty(),
                         !spec.encoder.empty(), arguments_.layouts)) {
        Add(layout, [this, layout] { return RunLayout(layout, "threads"); });
      }
    }
    if (Wants("six")) {
      for (const ParityLayout& layout : SixLayouts())
        Add(layout, [this, layout] { return RunLayout(layout, "threads"); });
    }
    for (const char* backend : {"tcp", "nccl"}) {
      if (!Wants(backend)) continue;
      for (const ParityLayout& layout : SixLayouts())
        Add(layout, [this, layout, backend] { return RunLayout(layout, backend); });
    }
    if (Wants("nccl")) {
      for (const ParityLayout& layout : SummedByTheBackend())
        Add(layout, [this, layout] { return RunLayout(layout, "nccl", /*deterministic=*/false); });
    }
    RunAll(rows);
    return Wants("bf16") ? RunBf16(rows) : OkStatus();
  }

 private:
  bool Wants(const std::string& kind) const {
    return std::find(arguments_.kinds.begin(), arguments_.kinds.end(), kind) !=
           arguments_.kinds.end();
  }

  void Add(const ParityLayout& layout, std::function<Row()> run) {
    if (layout.Name().find(arguments_.only) != std::string::npos) runs_.push_back(std::move(run));
  }

  // Some at a time: ranks wait for each other, and a core that waits can do another run's work.
  void RunAll(std::vector<Row>* rows) {
    std::vector<Row> results(runs_.size());
    std::atomic<size_t> next{0};
    const auto work = [&] {
      for (size_t i = next++; i < runs_.size(); i = next++) {
        results[i] = runs_[i]();
        Print(results[i]);
      }
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < arguments_.jobs; ++i) threads.emplace_back(work);
    for (std::thread& thread : threads) thread.join();
    rows->insert(rows->end(), results.begin(), results.end());
    runs_.clear();
  }

  // fp32 alone, bf16 alone and under six layouts; with the bits of bf16 alone where tp is 1.
  Status RunBf16(std::vector<Row>* rows) {
    Recipe recipe = recipe_;
    recipe.set_steps(kBf16Steps);
    recipe.mutable_optimizer()->set_lr(3e-5);  // smooth: at 1e-4 the loss of 8 pairs nears zero
    recipe.mutable_batch()->set_slots(4);
    recipe.mutable_batch()->set_micro_batches(1);
    recipe.set_precision(FP32);
    WEFT_ASSIGN_OR_RETURN(const Trajectory fp32, RunOnThreads(recipe));
    recipe.set_precision(BF16);
    WEFT_ASSIGN_OR_RETURN(const Trajectory alone, RunOnThreads(recipe));
    for (const ParityLayout& layout : SixLayouts()) {
      Add(layout, [&, layout] {
        Row row;
        row.model = model_;
        row.layout = layout.Name();
        row.dtype = "bf16";
        row.bits_promised = layout.layout.tp() == 1;
        const StatusOr<Trajectory> run =
            Timed(&row, [&] { return RunOnThreads(WithLayout(recipe, layout)); });
        if (!run.ok()) return row;
        row.max_rel_err = WindowError(run->losses, fp32.losses);
        row.bits_equal = SameBits(*run, alone);
        return row;
      });
    }
    RunAll(rows);
    return OkStatus();
  }

  // The run whose bits the layout promises: one data-parallel and pipeline rank with its tensor parallelism.
  StatusOr<const Trajectory*> ReferenceOf(const ParityLayout& layout) {
    const MutexLock lock(mutex_);
    const auto it = references_.find(layout.BitsKey());
    if (it != references_.end()) return &it->second;
    WEFT_ASSIGN_OR_RETURN(Trajectory reference,
                          RunOnThreads(WithLayout(recipe_, BitsReference(layout))));
    return &references_.emplace(layout.BitsKey(), std::move(reference)).first->second;
  }

  // `ranks`: "threads", or processes over "tcp" or "nccl".
  Row RunLayout(const ParityLayout& layout, const std::string& ranks, bool deterministic = true) {
    Row row;
    row.model = model_;
    row.layout = layout.Name();
    if (ranks != "threads") row.layout += " (" + ranks + (deterministic ? ")" : ", any order)");
    row.bits_promised = deterministic;
    Recipe recipe = WithLayout(recipe_, layout);
    recipe.set_deterministic(deterministic);
    recipe.mutable_layout()->set_backend(ranks == "nccl" ? NCCL : TCP);
    if (ranks != "threads") recipe.mutable_layout()->set_device(arguments_.device);
    if (recipe.layout().device() == CUDA) row.bits_promised = false;  // the reference is the CPU's
    const StatusOr<Trajectory> run = Timed(&row, [&] {
      return ranks == "threads" ? RunOnThreads(recipe) : RunAsProcesses(arguments_.program, recipe);
    });
    if (!run.ok()) return row;
    const StatusOr<const Trajectory*> reference = ReferenceOf(layout);
    if (!reference.ok()) {
      row.error = reference.status().message();
      return row;
    }
    row.max_rel_err = MaxRelativeError(*run, alone_);
    row.bits_equal = SameBits(*run, **reference);
    return row;
  }

  std::string model_;
  const Arguments& arguments_;
  Recipe recipe_;
  Trajectory alone_;
  Mutex mutex_;  // references_, which keep their place
  std::map<std::string, Trajectory> references_;
  std::vector<std::function<Row()>> runs_;
};

void WriteJson(const std::string& path, const std::vector<Row>& rows) {
  nlohmann::json json = nlohmann::json::array();
  for (const Row& row : rows) {
    json.push_back({{"model", row.model},
                    {"layout", row.layout},
                    {"dtype", row.dtype},
                    {"max_rel_err", row.max_rel_err},
                    {"bits_promised", row.bits_promised},
                    {"bits_equal", row.bits_equal},
                    {"ok", row.ok()},
                    {"error", row.error},
                    {"seconds", row.seconds}});
  }
  std::ofstream(path) << json.dump(1) << "\n";
}

int Main(int argc, char** argv) {
  KeepFreedMemory();
  at::set_num_threads(1);
  if (argc == 4 && std::string(argv[1]) == "--child") return RunChild(std::atoi(argv[2]), argv[3]);
  Arguments arguments;
  arguments.program = std::filesystem::read_symlink("/proc/self/exe").string();
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    if (flag == "--models") arguments.models = Split(argv[i + 1], ',');
    if (flag == "--kinds") arguments.kinds = Split(argv[i + 1], ',');
    if (flag == "--jobs") arguments.jobs = std::atoi(argv[i + 1]);
    if (flag == "--layouts") arguments.layouts = std::atoi(argv[i + 1]);
    if (flag == "--only") arguments.only = argv[i + 1];
    if (flag == "--json") arguments.json = argv[i + 1];
    if (flag == "--device") WEFT_CHECK(Device_Parse(argv[i + 1], &arguments.device)) << "--device";
  }
  std::vector<Row> rows;
  int failed = 0;
  for (const std::string& model : arguments.models) {
    const Status status = ModelParity(model, arguments).Run(&rows);
    if (status.ok()) continue;
    std::fprintf(stderr, "%s: %s\n", model.c_str(), status.message().c_str());
    ++failed;
  }
  double worst = 0;
  int equal = 0;
  for (const Row& row : rows) {
    failed += row.ok() ? 0 : 1;
    worst = std::max(worst, row.max_rel_err);
    equal += row.bits_equal ? 1 : 0;
  }
  std::printf("%zu runs, %d failed, %d with the promised bits, largest relative error %.2e\n",
              rows.size(), failed, equal, worst);
  if (!arguments.json.empty()) WriteJson(arguments.json, rows);
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace weft::testing

int main(int argc, char** argv) { return weft::testing::Main(argc, argv); }
