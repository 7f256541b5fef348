// One self-contained HTML page about a run: figures, loss curve, text queries with the pictures that were found, and what
// went wrong on the way. No scripts, no network.
#pragma once

#include <functional>
#include <string>

#include "cli/run_summary.h"
#include "dataloader/loader.h"

namespace weft {

struct ReportOptions {
  // Text queries that are shown, picked by a hash of their caption: good and bad ones alike.
  int num_queries = 24;
};

// `sample(i)` gives held-out sample i (caption, image bytes); never called if summary.retrieval is not present.
std::string ReportHtml(const RunSummary& summary, const ReportOptions& options,
                       const std::function<StatusOr<EvalSample>(int64_t)>& sample);

// The loss by step as an inline SVG.
std::string LossCurveSvg(const std::vector<StepPoint>& steps);

}  // namespace weft
