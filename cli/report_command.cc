#include "cli/report_command.h"

#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/flags.h"
#include "cli/report_html.h"
#include "cli/run_summary.h"
#include "cluster/base/file_system.h"

namespace weft {
namespace {

using Json = nlohmann::ordered_json;

Json RecallJson(const RecallTriple& recall) {
  return {{"r1", recall.r1}, {"r5", recall.r5}, {"r10", recall.r10}};
}

std::string FiguresJson(const RunSummary& summary) {
  const StepPoint last = summary.steps.empty() ? StepPoint() : summary.steps.back();
  Json figures = {
      {"run", summary.recipe.name()},     {"steps", last.step},
      {"seconds", summary.train_seconds}, {"images_per_second", summary.images_per_second},
      {"final_loss", last.loss},          {"final_loss_bits", last.loss_bits},
      {"kills", summary.kills},           {"recovery_seconds", summary.recovery_seconds}};
  if (summary.retrieval.present) {
    const RetrievalResult& retrieval = summary.retrieval;
    const auto n = static_cast<double>(retrieval.pairs);
    const RecallTriple chance{1 / n, 5 / n, 10 / n};
    figures["n"] = retrieval.pairs;
    figures["image_to_text"] = RecallJson(retrieval.image_to_text);
    figures["text_to_image"] = RecallJson(retrieval.text_to_image);
    figures["chance"] = RecallJson(chance);
    figures["times_chance_r10"] = {{"image_to_text", retrieval.image_to_text.r10 / chance.r10},
                                   {"text_to_image", retrieval.text_to_image.r10 / chance.r10}};
  }
  return figures.dump(2) + "\n";
}

void PrintFigures(const RunSummary& summary) {
  const StepPoint last = summary.steps.empty() ? StepPoint() : summary.steps.back();
  std::printf("%lld steps, loss %.4f (bits %s), %.0f samples/s, %.0f s in training steps\n",
              static_cast<long long>(last.step), last.loss, last.loss_bits.c_str(),
              summary.images_per_second, summary.train_seconds);
  if (summary.kills > 0) {
    std::printf("%d worker lost and replaced; slowest recovery %.1f s\n", summary.kills,
                summary.recovery_seconds);
  }
  const RetrievalResult& retrieval = summary.retrieval;
  if (!retrieval.present) return;
  const auto n = static_cast<double>(retrieval.pairs);
  std::printf("%-28s recall@1  recall@5  recall@10\n",
              (std::to_string(retrieval.pairs) + " held-out pairs").c_str());
  const auto row = [](const char* name, const RecallTriple& r, const std::string& note) {
    std::printf("  %-26s %6.1f %%  %6.1f %%  %6.1f %%  %s\n", name, 100 * r.r1, 100 * r.r5,
                100 * r.r10, note.c_str());
  };
  const auto times = [n](double r10) {
    char text[48];
    std::snprintf(text, sizeof text, "(%.1f times chance)", r10 * n / 10);
    return std::string(text);
  };
  row("image to text", retrieval.image_to_text, times(retrieval.image_to_text.r10));
  row("text to image", retrieval.text_to_image, times(retrieval.text_to_image.r10));
  row("chance", {1 / n, 5 / n, 10 / n}, "");
}

StatusOr<std::unique_ptr<EvalSet>> OpenEvalSet(const Recipe& recipe) {
  LoaderOptions options;
  options.data = recipe.data();
  options.batch = recipe.batch();
  options.image_size = recipe.model().clip().image_size();
  options.context_length = recipe.model().clip().context_length();
  return EvalSet::Open(options);
}

Status WriteText(const std::string& path, const std::string& text) {
  WEFT_RETURN_IF_ERROR(PosixFileSystem()->MakeDirs(ParentPath(path)));
  return WriteFileDurably(PosixFileSystem(), path, text);
}

Status Report(const std::string& run_dir, const std::string& html_path,
              const std::string& json_path) {
  WEFT_ASSIGN_OR_RETURN(const RunSummary summary, ReadRunSummary(run_dir));
  PrintFigures(summary);
  if (!json_path.empty()) WEFT_RETURN_IF_ERROR(WriteText(json_path, FiguresJson(summary)));
  if (html_path.empty()) return OkStatus();
  std::unique_ptr<EvalSet> eval_set;
  if (summary.retrieval.present) {
    WEFT_ASSIGN_OR_RETURN(eval_set, OpenEvalSet(summary.recipe));
  }
  const std::string page = ReportHtml(
      summary, ReportOptions(), [&eval_set](int64_t index) { return eval_set->Sample(index); });
  return WriteText(html_path, page);
}

}  // namespace

int ReportCommand(const std::vector<std::string>& args) {
  std::string html;
  std::string json;
  FlagParser flags("weft report", "RUN_DIR [flags]",
                   "Shows what a run did: figures, loss curve, retrieval, recoveries.");
  flags.Positional(1, 1);
  flags.String("html", &html, "file for a page that needs no network");
  flags.String("json", &json, "file for the figures");
  flags.Example("weft report runs/clip-demo --html demo.html --json demo.json");
  const ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  const Status status = Report(parsed.positional[0], html, json);
  return status.ok() ? 0 : ReportError("weft report", status);
}

}  // namespace weft
