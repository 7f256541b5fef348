// `make parity`: every model under every layout against one process. One row a run, a table and
// build/reports/parity.json; exit 1 if a row fails.
//
//   weft_parity [--models clip,roberta,llava] [--layouts 60] [--only NAME] [--json FILE]
#include <ATen/Parallel.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cluster/base/logging.h"
#include "cluster/base/text.h"
#include "parallel/memory.h"
#include "tests/parity/parity_layouts.h"
#include "tests/parity/parity_models.h"
#include "tests/parity/trajectory.h"

namespace weft::testing {
namespace {

// fp64: relative error of any tensor.
constexpr double kTolerance = 1e-9;

struct Arguments {
  std::vector<std::string> models = {"clip", "roberta", "llava"};
  int layouts = 60;
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
    return error.empty() && max_rel_err <= kTolerance && (bits_equal || !bits_promised);
  }
};

void Print(const Row& row) {
  std::printf("%-8s %-62s %-5s %9.2e  %-8s %6.1f s  %s\n", row.model.c_str(), row.layout.c_str(),
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

class ModelParity {
 public:
  ModelParity(const std::string& model, const Arguments& arguments)
      : model_(model), arguments_(arguments), recipe_(ParityRecipe(model)) {}

  Status Run(std::vector<Row>* rows) {
    WEFT_ASSIGN_OR_RETURN(const ModelSpec spec, MakeModelSpec(recipe_.model()));
    WEFT_ASSIGN_OR_RETURN(alone_, RunOnThreads(recipe_));
    references_.emplace(ParityLayout().BitsKey(), alone_);
    for (const ParityLayout& layout :
         ParityLayouts(static_cast<int>(spec.blocks.size()), !spec.joins.empty(),
                       !spec.encoder.empty(), arguments_.layouts)) {
      if (layout.Name().find(arguments_.only) == std::string::npos) continue;
      rows->push_back(RunLayout(layout));
      Print(rows->back());
    }
    return OkStatus();
  }

 private:
  // The run whose bits the layout promises: one data-parallel and pipeline rank with its tensor parallelism.
  StatusOr<const Trajectory*> ReferenceOf(const ParityLayout& layout) {
    const auto it = references_.find(layout.BitsKey());
    if (it != references_.end()) return &it->second;
    WEFT_ASSIGN_OR_RETURN(Trajectory reference,
                          RunOnThreads(WithLayout(recipe_, BitsReference(layout))));
    return &references_.emplace(layout.BitsKey(), std::move(reference)).first->second;
  }

  Row RunLayout(const ParityLayout& layout) {
    Row row;
    row.model = model_;
    row.layout = layout.Name();
    row.bits_promised = true;
    const auto start = std::chrono::steady_clock::now();
    const StatusOr<Trajectory> run = RunOnThreads(WithLayout(recipe_, layout));
    row.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const StatusOr<const Trajectory*> reference = ReferenceOf(layout);
    if (!run.ok() || !reference.ok()) {
      row.error = (run.ok() ? reference.status() : run.status()).message();
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
  std::map<std::string, Trajectory> references_;
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
                    {"error", row.error},
                    {"seconds", row.seconds}});
  }
  std::ofstream(path) << json.dump(1) << "\n";
}

int Main(int argc, char** argv) {
  KeepFreedMemory();
  at::set_num_threads(1);
  Arguments arguments;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    if (flag == "--models") arguments.models = Split(argv[i + 1], ',');
    if (flag == "--layouts") arguments.layouts = std::atoi(argv[i + 1]);
    if (flag == "--only") arguments.only = argv[i + 1];
    if (flag == "--json") arguments.json = argv[i + 1];
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
