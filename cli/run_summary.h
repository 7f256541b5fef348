// What a run directory says of its run: the loss curve, what happened, how the evaluation went.
//
// Thread rule: values and pure functions of the files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"

namespace weft {

struct StepPoint {
  int64_t generation = 0;
  int64_t step = 0;
  double loss = 0;
  std::string loss_bits;
  double seconds = 0;
  int64_t samples = 0;
};

// One line of events.jsonl, for people.
struct RunEvent {
  std::string kind;
  std::string text;
  double unix_time = 0;
};

struct RecallTriple {
  double r1 = 0;
  double r5 = 0;
  double r10 = 0;
};

struct RankedImage {
  int64_t index = 0;
  double score = 0;
};

struct RetrievalQuery {
  int64_t index = 0;  // of the caption, and of the picture that it belongs to
  std::vector<RankedImage> top;
};

struct RetrievalResult {
  bool present = false;
  int64_t pairs = 0;
  RecallTriple image_to_text;
  RecallTriple text_to_image;
  std::vector<RetrievalQuery> queries;
};

struct RunSummary {
  Recipe recipe;
  std::vector<StepPoint> steps;  // by step; of a step that was done twice, the last generation's
  std::vector<RunEvent> events;
  RetrievalResult retrieval;
  int kills = 0;
  double recovery_seconds = 0;  // of the slowest recovery
  // Wall seconds spent in steps, and images per second over them.
  double train_seconds = 0;
  double images_per_second = 0;
};

// Reads recipe.textproto, steps.jsonl, events.jsonl and eval.json of `run_dir`. A torn last line (a run that was cut off)
// is left out; NotFound if there is no run.
StatusOr<RunSummary> ReadRunSummary(const std::string& run_dir);

}  // namespace weft
