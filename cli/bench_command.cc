#include "cli/bench_command.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "cli/flags.h"
#include "cluster/agent/agent.h"
#include "cluster/base/text.h"
#include "cluster/config/recipe_loader.h"
#include "cluster/config/validate.h"
#include "cluster/launch/worker_libraries.h"
#include "cluster/topology/mesh.h"
#include "models/spec/layout_rules.h"
#include "models/spec/model_spec.h"

namespace weft {
namespace {

// For blocks that only take time no more than a batch is needed.
constexpr const char* kSimulatedRecipe =
    "name: \"simulated\" batch { slots: 1 micro_batches: 8 micro_batch_size: 1 }";

struct BenchFlags {
  std::string layout;
  std::vector<std::string> overrides;
  int64_t steps = 5;
  double simulate_ms = 0;
  int64_t blocks = 8;
  std::string device = "cpu";
  std::string json = "build/reports/bench-step.json";
};

FlagParser MakeParser(BenchFlags* values) {
  FlagParser flags(
      "weft bench", "step [RECIPE] [flags] | comm [flags]",
      "Measures training steps under a layout on this machine, ranks as threads, on "
      "synthetic batches:\nthroughput, the pipeline's bubble beside the ideal one, and "
      "how much of the exchange over dp hides\nbehind the backward. With --simulate, "
      "blocks that only take time: what a schedule is worth where\ncores are fewer "
      "than ranks.");
  flags.Positional(1, 2);
  flags.String("layout", &values->layout, "as in recipes: dp=2,pp=4,schedule=ZB_H1");
  flags.Strings("set", &values->overrides, "one value of the recipe: --set batch.micro_batches=16");
  flags.Int("steps", &values->steps, "that are measured, after two that warm up");
  flags.Double("simulate", &values->simulate_ms,
               "milliseconds of a simulated block's forward; as much for each of its gradients");
  flags.Int("blocks", &values->blocks, "simulated blocks");
  flags.String("device", &values->device, "cpu, or the number of a CUDA device, for one rank");
  flags.String("json", &values->json, "where the report goes; empty: nowhere");
  flags.Example("weft bench step recipes/clip/tiny.textproto --layout dp=2,pp=2");
  flags.Example("weft bench step --simulate 5 --layout pp=4,schedule=ZB_H1");
  return flags;
}

// What a layout is checked against: as many blocks, without parameters.
ModelSpec SimulatedBlocks(int64_t count) {
  ModelSpec spec;
  spec.family = "the simulated model";
  spec.blocks.resize(static_cast<size_t>(count));
  return spec;
}

StatusOr<Recipe> MakeRecipe(const BenchFlags& flags, const std::string& path) {
  std::vector<std::string> overrides = flags.overrides;
  if (!flags.layout.empty()) {
    for (const std::string& setting : Split(flags.layout, ','))
      overrides.push_back("layout." + setting);
  }
  LoadedRecipe loaded;
  ModelSpec spec = SimulatedBlocks(flags.blocks);
  if (path.empty()) {
    WEFT_ASSIGN_OR_RETURN(loaded, ParseRecipe(kSimulatedRecipe, "weft bench", overrides));
    // A slot a rank at least.
    if (loaded.recipe.batch().slots() < loaded.recipe.layout().dp())
      loaded.recipe.mutable_batch()->set_slots(loaded.recipe.layout().dp());
  } else {
    WEFT_ASSIGN_OR_RETURN(loaded, LoadRecipe({.path = path, .overrides = overrides}));
    WEFT_RETURN_IF_ERROR(ValidateRecipe(loaded));
    if (flags.simulate_ms <= 0) {
      WEFT_ASSIGN_OR_RETURN(spec, MakeModelSpec(loaded.recipe));
    }
  }
  WEFT_RETURN_IF_ERROR(MakeParallelDims(loaded.recipe).status());
  WEFT_RETURN_IF_ERROR(CheckLayoutFits(loaded.recipe, spec));
  return loaded.recipe;
}

// A file without a name that the worker inherits.
StatusOr<std::string> Hand(const std::string& bytes) {
  const int fd = ::memfd_create("weft-recipe", 0);
  if (fd < 0 || ::write(fd, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
    return Internal(std::string("memfd: ") + std::strerror(errno));
  return "/proc/self/fd/" + std::to_string(fd);
}

// Becomes `weft-worker bench ...`; returns only if that cannot be.
int BecomeWorker(std::vector<std::string> argv) {
  const std::string program = DefaultWorkerProgram();
  const StatusOr<std::string> libraries = WorkerLibraryPath(program);
  if (!libraries.ok()) return ReportError("weft bench", libraries.status());
  if (!libraries->empty()) ::setenv("LD_LIBRARY_PATH", libraries->c_str(), /*overwrite=*/1);
  argv.insert(argv.begin(), {program, "bench"});
  std::vector<char*> pointers;
  for (std::string& arg : argv) pointers.push_back(arg.data());
  pointers.push_back(nullptr);
  ::execv(program.c_str(), pointers.data());
  return ReportError("weft bench", NotFound(program + ": " + std::strerror(errno) +
                                            "; it lies beside weft in a build with LibTorch"));
}

int BenchCommCommand(const std::vector<std::string>& args) {
  std::string backend = "TCP";
  std::string device = "CPU";
  int64_t ranks = 2;
  int64_t max_mib = 64;
  std::string json = "build/reports/bench-comm.json";
  FlagParser flags(
      "weft bench", "comm [flags]",
      "Measures collectives and messages between ranks of this machine, by size: "
      "microseconds, and the bandwidth\nof each rank's link as the tables of nccl-tests "
      "define it.");
  flags.Positional(1, 1);
  flags.String("backend", &backend, "TCP (with shared memory inside this machine) or NCCL");
  flags.String("device", &device, "where the buffers lie: CPU or CUDA");
  flags.Int("ranks", &ranks, "threads, on GPUs one each");
  flags.Int("max-mib", &max_mib, "the largest buffer");
  flags.String("json", &json, "where the table goes; empty: nowhere");
  flags.Example("weft bench comm --ranks 2");
  flags.Example("weft bench comm --backend NCCL --device CUDA --ranks 8 --max-mib 512");
  const ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  return BecomeWorker({"comm", "--backend", backend, "--device", device, "--ranks",
                       std::to_string(ranks), "--max-mib", std::to_string(max_mib), "--json",
                       json});
}

}  // namespace

int BenchCommand(const std::vector<std::string>& args) {
  if (!args.empty() && args[0] == "comm") return BenchCommCommand(args);
  BenchFlags values;
  const ParsedFlags parsed = MakeParser(&values).Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  const std::string path = parsed.positional.size() > 1 ? parsed.positional[1] : "";
  if (parsed.positional[0] != "step" || (path.empty() && values.simulate_ms <= 0)) {
    return ReportError("weft bench",
                       InvalidArgument("name what is measured: `weft bench step RECIPE`, "
                                       "`weft bench step --simulate 5` or `weft bench comm`"));
  }
  if (values.steps < 1 || values.blocks < 1) {
    return ReportError("weft bench", InvalidArgument("--steps and --blocks: at least 1"));
  }
  const StatusOr<Recipe> recipe = MakeRecipe(values, path);
  if (!recipe.ok()) return ReportError("weft bench", recipe.status());
  const StatusOr<std::string> file = Hand(recipe->SerializeAsString());
  if (!file.ok()) return ReportError("weft bench", file.status());

  std::vector<std::string> argv = {"step", *file, "--steps", std::to_string(values.steps)};
  if (values.simulate_ms > 0) {
    argv.insert(argv.end(), {"--simulate", std::to_string(values.simulate_ms), "--blocks",
                             std::to_string(values.blocks)});
  }
  argv.insert(argv.end(), {"--device", values.device});
  if (!values.json.empty()) argv.insert(argv.end(), {"--json", values.json});
  return BecomeWorker(std::move(argv));
}

}  // namespace weft
