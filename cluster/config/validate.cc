#include "cluster/config/validate.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>

#include "cluster/base/text.h"
#include "cluster/config/data_rules.h"
#include "cluster/config/model_rules.h"
#include "cluster/config/recipe_checker.h"
#include "cluster/config/recipe_tree.h"

namespace weft {
namespace {

void CheckTop(const Recipe& recipe, RecipeChecker* check) {
  if (check->Require("name", "give the run a name, as name: \"clip-demo\"")) {
    check->Rule(IsPlainName(recipe.name()), "name",
                "must be at most 100 letters, digits, '.', '_' and '-', and begin with a letter, "
                "digit or '_': it names files");
  }
  check->Count("steps", recipe.has_steps(), recipe.steps(), 1, kMaxCount,
               "the length of training in optimizer steps");
  check->Count("threads_per_rank", true, recipe.threads_per_rank(), 1, 1024,
               "ranks x threads should not exceed the cores");
  for (int i = 0; i < recipe.trainable_size(); ++i) {
    check->Rule(!recipe.trainable(i).empty(), "trainable[" + std::to_string(i) + "]",
                "must be a glob pattern of parameter names, as \"visual.*\"");
  }
  for (int i = 0; i < recipe.init_from_size(); ++i) {
    const std::string entry = "init_from[" + std::to_string(i) + "]";
    check->Rule(!recipe.init_from(i).checkpoint().empty(), entry + ".checkpoint",
                "must name a checkpoint, as \"runs/a/ckpt/MANIFEST-001000.E1.G1.A1\"");
    check->Rule(!recipe.init_from(i).parameters().empty(), entry + ".parameters",
                "must be a glob pattern of parameter names; * takes all");
  }
}

void CheckBatch(const Recipe& recipe, RecipeChecker* check) {
  const BatchRecipe& batch = recipe.batch();
  check->Count("batch.slots", true, batch.slots(), 1, 1 << 20,
               "the largest number of data-parallel ranks ever wanted");
  check->Count("batch.micro_batches", true, batch.micro_batches(), 1, 1 << 20, "");
  check->Count("batch.micro_batch_size", batch.has_micro_batch_size(), batch.micro_batch_size(), 1,
               1 << 20, "the samples that a rank computes at a time");
  const bool all_positive =
      batch.slots() > 0 && batch.micro_batches() > 0 && batch.micro_batch_size() > 0;
  check->Rule(!all_positive || GlobalBatch(batch).has_value(), "batch.micro_batch_size",
              "makes slots x micro_batches x micro_batch_size exceed " + std::to_string(kMaxCount));
}

void CheckOptimizer(const Recipe& recipe, RecipeChecker* check) {
  const OptimizerRecipe& optimizer = recipe.optimizer();
  const std::string usual = "the paper has 5e-4 at a batch of 32768; small models take 1e-3";
  if (check->Require("optimizer.lr", usual)) {
    check->Rule(optimizer.lr() > 0, "optimizer.lr", "must be above 0; " + usual);
  }
  check->Rule(optimizer.beta1() >= 0 && optimizer.beta1() < 1, "optimizer.beta1",
              "must be at least 0 and below 1; 0.9 is usual");
  check->Rule(optimizer.beta2() >= 0 && optimizer.beta2() < 1, "optimizer.beta2",
              "must be at least 0 and below 1; 0.98 is usual");
  check->Rule(optimizer.eps() > 0, "optimizer.eps", "must be above 0; 1e-6 is usual");
  check->Rule(optimizer.weight_decay() >= 0, "optimizer.weight_decay", "must be at least 0");
  check->Rule(optimizer.clip_norm() >= 0, "optimizer.clip_norm",
              "must be at least 0; 0 turns clipping off");
  const ScheduleRecipe& schedule = recipe.schedule();
  check->Rule(schedule.warmup_steps() >= 0, "schedule.warmup_steps", "must be at least 0");
  check->Rule(recipe.steps() < 1 || schedule.warmup_steps() <= recipe.steps(),
              "schedule.warmup_steps",
              "must not exceed steps = " + std::to_string(recipe.steps()) +
                  ", or the learning rate never reaches its peak");
  check->Rule(schedule.final_lr() >= 0, "schedule.final_lr", "must be at least 0");
  check->Rule(!(optimizer.lr() > 0) || schedule.final_lr() <= optimizer.lr(), "schedule.final_lr",
              "must not exceed optimizer.lr");
}

void CheckEval(const Recipe& recipe, RecipeChecker* check) {
  check->Rule(!recipe.eval().retrieval() || recipe.model().has_clip(), "eval.retrieval",
              "must be false: retrieval compares the features of CLIP's two towers");
  check->Rule(!recipe.eval().retrieval() || recipe.data().eval_shards_size() > 0,
              "data.eval_shards", "must name at least one shard, because eval.retrieval is on");
  check->Count("eval.top_images", true, recipe.eval().top_images(), 1, 1000, "");
}

// Ranges only: what fits which model is in models/spec/layout_rules.h.
void CheckLayout(const Recipe& recipe, RecipeChecker* check) {
  const Layout& layout = recipe.layout();
  const int max = 1 << 16;
  check->Count("layout.dp", true, layout.dp(), 1, max, "");
  check->Count("layout.tp", true, layout.tp(), 1, max, "");
  check->Count("layout.pp", true, layout.pp(), 1, max, "");
  check->Count("layout.virtual_stages", true, layout.virtual_stages(), 1, max, "");
  check->Count("layout.zero_stage", true, layout.zero_stage(), 1, 3, "");
  check->Count("layout.shard_ranks", true, layout.shard_ranks(), 0, max, "");
  for (int i = 0; i < layout.recompute_blocks_size(); ++i) {
    check->Rule(!layout.recompute_blocks(i).empty(),
                "layout.recompute_blocks[" + std::to_string(i) + "]",
                "must be a glob pattern of block names, as \"visual.*\"");
  }
}

void CheckRun(const RunOptions& run, RecipeChecker* check) {
  check->Rule(run.checkpoint_every() >= 0, "run.checkpoint_every",
              "must be at least 0; 0 saves only at the end");
  check->Rule(run.keep_checkpoints() >= 2, "run.keep_checkpoints",
              "must be at least 2: the newest may turn out to be damaged");
  check->Rule(run.max_fruitless_restarts() >= 1, "run.max_fruitless_restarts",
              "must be at least 1");
  check->Rule(run.hang_floor_s() > 0, "run.hang_floor_s", "must be above 0 seconds");
  check->Rule(run.collective_timeout_s() > 0, "run.collective_timeout_s",
              "must be above 0 seconds");
}

std::string Line(const Violation& violation, const Provenance& provenance) {
  // A list's field stands for its elements.
  auto origin = provenance.find(violation.field);
  if (origin == provenance.end()) origin = provenance.find(violation.field + "[0]");
  const std::string where = origin == provenance.end() ? "" : origin->second + ": ";
  return where + violation.field + (violation.value.empty() ? "" : " = " + violation.value) + ": " +
         violation.rule;
}

Status ToStatus(const std::vector<Violation>& violations, const Provenance& provenance) {
  if (violations.empty()) return OkStatus();
  std::vector<std::string> lines;
  for (const Violation& violation : violations) lines.push_back(Line(violation, provenance));
  if (lines.size() == 1) return InvalidArgument(lines[0]);
  return InvalidArgument("the recipe has " + std::to_string(lines.size()) + " problems:\n  " +
                         Join(lines, "\n  "));
}

// "" if a byte of the file can be read.
std::string WhyUnreadable(const std::string& path, FileSystem* fs) {
  const auto size = fs->FileSize(path);
  if (size.status().code() == StatusCode::kNotFound) return "is not there";
  if (!size.ok()) return "cannot be used (" + size.status().message() + ")";
  char byte = 0;
  const Status read = fs->ReadRange(path, 0, 1, &byte);
  if (read.ok()) return "";
  return *size == 0 ? "is empty" : "cannot be read (" + read.message() + ")";
}

// "a-{0..1}.tar::b.tar" -> a-0.tar, a-1.tar, b.tar.
std::vector<std::string> ExpandShards(const std::string& pattern) {
  std::vector<std::string> paths;
  for (size_t begin = 0; begin <= pattern.size();) {
    const size_t end = std::min(pattern.find("::", begin), pattern.size());
    for (std::string& path : ExpandBraces(std::string_view(pattern).substr(begin, end - begin))) {
      paths.push_back(std::move(path));
    }
    begin = end + 2;
  }
  return paths;
}

void CheckShardFiles(const std::string& field,
                     const google::protobuf::RepeatedPtrField<std::string>& shards, FileSystem* fs,
                     std::vector<Violation>* violations) {
  for (int i = 0; i < shards.size(); ++i) {
    size_t bad = 0;
    std::string first;
    const std::vector<std::string> paths = ExpandShards(shards.Get(i));
    for (const std::string& path : paths) {
      const std::string why = WhyUnreadable(path, fs);
      if (!why.empty() && bad++ == 0) first = path + " " + why;
    }
    if (bad == 0) continue;
    const std::string others = bad == 1 ? ""
                                        : " (and " + std::to_string(bad - 1) + " more of " +
                                              std::to_string(paths.size()) + ")";
    violations->push_back(
        {field + "[" + std::to_string(i) + "]", "\"" + shards.Get(i) + "\"",
         first + others + "; `weft data pack openclipart` makes shards of Debian's clip art"});
  }
}

}  // namespace

std::vector<Violation> RecipeViolations(const Recipe& recipe) {
  const Recipe filled = WithDefaults(recipe);
  RecipeChecker check(filled);
  check.AllFinite();
  CheckTop(filled, &check);
  CheckModelRules(filled, &check);
  CheckBatch(filled, &check);
  CheckDataRules(filled, &check);
  CheckOptimizer(filled, &check);
  CheckEval(filled, &check);
  CheckLayout(filled, &check);
  CheckRun(filled.run(), &check);
  return std::move(check).Take();
}

Status ValidateRecipe(const Recipe& recipe) { return ToStatus(RecipeViolations(recipe), {}); }

Status ValidateRecipe(const LoadedRecipe& loaded) {
  return ToStatus(RecipeViolations(loaded.recipe), loaded.provenance);
}

Status CheckDataFiles(const LoadedRecipe& loaded, FileSystem* fs) {
  const Recipe& recipe = loaded.recipe;
  std::vector<Violation> violations;
  CheckShardFiles("data.train_shards", recipe.data().train_shards(), fs, &violations);
  for (int i = 0; i < recipe.data().sets_size(); ++i) {
    CheckShardFiles("data.sets[" + std::to_string(i) + "].shards", recipe.data().sets(i).shards(),
                    fs, &violations);
  }
  if (recipe.eval().retrieval()) {
    CheckShardFiles("data.eval_shards", recipe.data().eval_shards(), fs, &violations);
  }
  const std::string& vocabulary = recipe.data().vocabulary();
  const std::string why = vocabulary.empty() ? "" : WhyUnreadable(vocabulary, fs);
  if (!why.empty()) {
    violations.push_back({"data.vocabulary", "\"" + vocabulary + "\"",
                          why + "; `weft data vocab` trains one from captions"});
  }
  for (int i = 0; i < recipe.init_from_size(); ++i) {
    const std::string& checkpoint = recipe.init_from(i).checkpoint();
    if (fs->Exists(checkpoint)) continue;
    violations.push_back({"init_from[" + std::to_string(i) + "].checkpoint",
                          "\"" + checkpoint + "\"",
                          "is not there; `weft checkpoint list` shows those of a run"});
  }
  if (violations.empty()) return OkStatus();
  std::error_code ignored;
  const std::string here = std::filesystem::current_path(ignored).string();
  const Status status = ToStatus(violations, loaded.provenance);
  return InvalidArgument(status.message() + "\n(paths are relative to " + here + ")");
}

}  // namespace weft
