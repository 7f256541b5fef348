#include "cli/run_summary.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "cluster/base/file_system.h"
#include "cluster/base/text.h"
#include "cluster/config/freeze.h"

namespace weft {
namespace {

using Json = nlohmann::json;

// The objects of a JSON-lines file; lines that do not parse are left out (a kill tears the last one).
std::vector<Json> ReadJsonLines(const std::string& path) {
  std::vector<Json> objects;
  const StatusOr<std::string> text = PosixFileSystem()->ReadFile(path);
  if (!text.ok()) return objects;
  for (const std::string& line : Split(*text, '\n')) {
    Json object = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (object.is_object()) objects.push_back(std::move(object));
  }
  return objects;
}

std::vector<StepPoint> ReadSteps(const std::string& run_dir) {
  std::map<int64_t, StepPoint> by_step;
  for (const Json& line : ReadJsonLines(JoinPath(run_dir, "steps.jsonl"))) {
    StepPoint point;
    point.generation = line.value("generation", int64_t{0});
    point.step = line.value("step", int64_t{0});
    const auto loss = line.find("loss");
    if (loss != line.end() && loss->is_number()) point.loss = loss->get<double>();
    point.loss_bits = line.value("loss_bits", "");
    point.seconds = line.value("seconds", 0.0);
    point.samples = line.value("samples", int64_t{0});
    by_step[point.step] = point;  // lines are in the order of time: the last one wins
  }
  std::vector<StepPoint> steps;
  for (auto& [step, point] : by_step) steps.push_back(std::move(point));
  return steps;
}

void ReadEvents(const std::string& run_dir, RunSummary* summary) {
  for (const Json& line : ReadJsonLines(JoinPath(run_dir, "events.jsonl"))) {
    RunEvent event{line.value("kind", ""), line.value("text", ""), line.value("time", 0.0)};
    if (event.kind == "state") continue;  // each is followed by an event that says more
    if (event.kind == "worker_lost") ++summary->kills;
    if (event.kind == "recovered") {
      summary->recovery_seconds = std::max(summary->recovery_seconds, line.value("seconds", 0.0));
    }
    summary->events.push_back(std::move(event));
  }
}

RecallTriple ParseRecall(const Json& object) {
  return {object.value("r1", 0.0), object.value("r5", 0.0), object.value("r10", 0.0)};
}

Status ReadRetrieval(const std::string& run_dir, RetrievalResult* retrieval) {
  const std::string path = JoinPath(run_dir, "eval.json");
  if (!PosixFileSystem()->Exists(path)) return OkStatus();
  WEFT_ASSIGN_OR_RETURN(const std::string text, PosixFileSystem()->ReadFile(path));
  const Json file = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!file.is_object()) return Corruption(path + " is not JSON; run the evaluation again");
  const Json eval = file.value("details", Json::object());
  if (!eval.contains("pairs")) return OkStatus();
  retrieval->present = true;
  retrieval->pairs = eval.value("pairs", int64_t{0});
  retrieval->image_to_text = ParseRecall(eval.value("image_to_text", Json::object()));
  retrieval->text_to_image = ParseRecall(eval.value("text_to_image", Json::object()));
  for (const Json& line : eval.value("queries", Json::array())) {
    RetrievalQuery query;
    query.index = line.value("index", int64_t{0});
    for (const Json& top : line.value("top", Json::array())) {
      query.top.push_back({top.value("index", int64_t{0}), top.value("score", 0.0)});
    }
    retrieval->queries.push_back(std::move(query));
  }
  return OkStatus();
}

}  // namespace

StatusOr<RunSummary> ReadRunSummary(const std::string& run_dir) {
  RunSummary summary;
  WEFT_ASSIGN_OR_RETURN(summary.recipe,
                        ReadFrozenRecipe(PosixFileSystem(), JoinPath(run_dir, "recipe.textproto")));
  summary.steps = ReadSteps(run_dir);
  ReadEvents(run_dir, &summary);
  WEFT_RETURN_IF_ERROR(ReadRetrieval(run_dir, &summary.retrieval));
  int64_t samples = 0;
  for (const StepPoint& point : summary.steps) {
    summary.train_seconds += point.seconds;
    samples += point.samples;
  }
  if (summary.train_seconds > 0) {
    summary.images_per_second = static_cast<double>(samples) / summary.train_seconds;
  }
  return summary;
}

}  // namespace weft
