#include "cluster/config/validate.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>

#include "cluster/base/text.h"
#include "cluster/config/recipe_tree.h"

namespace weft {
namespace {

// Collects violations; knows each value of the recipe as text.
class Checker {
 public:
  explicit Checker(const Recipe& recipe) {
    for (RecipeLeaf& leaf : RecipeLeaves(recipe)) values_[leaf.path] = std::move(leaf.text);
  }

  bool Has(const std::string& field) const { return values_.count(field) > 0; }

  // `field` must be set; false (and a violation) if not.
  bool Require(const std::string& field, const std::string& remedy) {
    const bool has = Has(field);
    if (!has) violations_.push_back({field, "", "is not set; " + remedy});
    return has;
  }

  void Rule(bool holds, const std::string& field, const std::string& rule) {
    if (holds) return;
    const auto found = values_.find(field);
    violations_.push_back({field, found == values_.end() ? "" : found->second, rule});
  }

  // A required integer in [min, max].
  void Count(const std::string& field, bool is_set, int64_t value, int64_t min, int64_t max,
             const std::string& remedy) {
    if (!is_set) {
      Require(field, remedy);
      return;
    }
    Rule(value >= min && value <= max, field,
         "must be from " + std::to_string(min) + " to " + std::to_string(max) +
             (remedy.empty() ? "" : "; " + remedy));
  }

  // Not a number, or infinite, is no value for any field.
  void AllFinite() {
    for (const auto& [field, text] : values_) {
      const bool finite = text != "nan" && text != "-nan" && text != "inf" && text != "-inf";
      Rule(finite, field, "must be a finite number");
    }
  }

  std::vector<Violation> Take() && { return std::move(violations_); }

 private:
  std::map<std::string, std::string> values_;
  std::vector<Violation> violations_;
};

constexpr int64_t kMaxCount = 1'000'000'000;

bool IsPlainName(const std::string& name) {
  const std::string allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  return !name.empty() && name.size() <= 100 && name[0] != '.' && name[0] != '-' &&
         name.find_first_not_of(allowed) == std::string::npos;
}

// Samples of a step; empty if the batch has no valid size.
std::optional<int64_t> GlobalBatch(const BatchRecipe& batch) {
  int64_t product = 1;
  for (const int64_t factor : {batch.slots(), batch.micro_batches(), batch.micro_batch_size()}) {
    if (factor < 1 || factor > kMaxCount / product) return std::nullopt;
    product *= factor;
  }
  return product;
}

void CheckTop(const Recipe& recipe, Checker* check) {
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

void CheckClipTower(const std::string& tower, int width, int layers, int heads, bool has_width,
                    bool has_layers, bool has_heads, Checker* check) {
  const std::string prefix = "model.clip." + tower;
  check->Count(prefix + "_width", has_width, width, 1, 1 << 16, "ViT-B/32 has 768 and 512");
  check->Count(prefix + "_layers", has_layers, layers, 1, 1024, "ViT-B/32 has 12 and 12");
  if (!has_heads) {
    check->Rule(width < 1 || width % 64 == 0, prefix + "_width",
                "must be a multiple of 64, or " + prefix + "_heads be set");
    return;
  }
  check->Count(prefix + "_heads", true, heads, 1, 1024, "the paper takes width / 64");
  check->Rule(width < 1 || heads < 1 || width % heads == 0, prefix + "_width",
              "must be a multiple of " + prefix + "_heads = " + std::to_string(heads));
}

void CheckClip(const Recipe& recipe, Checker* check) {
  const ClipModel& clip = recipe.model().clip();
  check->Count("model.clip.embed_dim", clip.has_embed_dim(), clip.embed_dim(), 1, 1 << 16,
               "ViT-B/32 has 512");
  check->Count("model.clip.image_size", clip.has_image_size(), clip.image_size(), 1, 4096,
               "pixels; ViT-B/32 has 224");
  check->Count("model.clip.patch_size", clip.has_patch_size(), clip.patch_size(), 1, 4096,
               "pixels; ViT-B/32 has 32");
  if (clip.image_size() > 0 && clip.patch_size() > 0) {
    check->Rule(clip.image_size() % clip.patch_size() == 0, "model.clip.patch_size",
                "must divide model.clip.image_size = " + std::to_string(clip.image_size()));
  }
  CheckClipTower("vision", clip.vision_width(), clip.vision_layers(), clip.vision_heads(),
                 clip.has_vision_width(), clip.has_vision_layers(), clip.has_vision_heads(), check);
  CheckClipTower("text", clip.text_width(), clip.text_layers(), clip.text_heads(),
                 clip.has_text_width(), clip.has_text_layers(), clip.has_text_heads(), check);
  check->Count("model.clip.context_length", true, clip.context_length(), 3, 1 << 20,
               "start, end and one token; CLIP has 77");
  check->Count("model.clip.vocab_size", true, clip.vocab_size(), 514, 1 << 24,
               "512 byte symbols, start and end, and one for each merge of data.vocabulary");
  check->Rule(clip.logit_scale_max() > 0, "model.clip.logit_scale_max",
              "must be above 0; CLIP has ln(100) = 4.6052");
  check->Rule(clip.logit_scale_init() >= 0 && clip.logit_scale_init() <= clip.logit_scale_max(),
              "model.clip.logit_scale_init",
              "must be from 0 to model.clip.logit_scale_max; CLIP has ln(1 / 0.07) = 2.6593");
  const auto global = GlobalBatch(recipe.batch());
  check->Rule(!global || *global >= 2, "batch.micro_batch_size",
              "gives a global batch of 1; a contrastive loss needs at least 2 pairs");
  check->Require("data.vocabulary",
                 "name a file of byte-pair merges; `weft data vocab` trains one from captions");
}

void CheckModel(const Recipe& recipe, Checker* check) {
  switch (recipe.model().family_case()) {
    case ModelRecipe::kClip:
      return CheckClip(recipe, check);
    case ModelRecipe::FAMILY_NOT_SET:
      check->Rule(false, "model", "choose a family, as model { clip { ... } }");
  }
}

void CheckBatch(const Recipe& recipe, Checker* check) {
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

void CheckShards(const std::string& field,
                 const google::protobuf::RepeatedPtrField<std::string>& shards, Checker* check) {
  for (int i = 0; i < shards.size(); ++i) {
    check->Rule(!shards.Get(i).empty(), field + "[" + std::to_string(i) + "]",
                "must be a path or a pattern as \"train-{000000..000007}.tar\"");
  }
}

void CheckOrder(const Recipe& recipe, Checker* check) {
  const OrderRecipe& order = recipe.data().order();
  check->Count("data.order.chunk", true, order.chunk(), 1, kMaxCount, "");
  check->Count("data.order.window", true, order.window(), 1, kMaxCount, "");
  check->Rule(order.lanes() >= 0, "data.order.lanes", "must be at least 0; 0 lets Weft choose");
  const auto global = GlobalBatch(recipe.batch());
  if (order.lanes() < 1 || !global) return;
  check->Rule(order.lanes() % recipe.batch().slots() == 0 && *global % order.lanes() == 0,
              "data.order.lanes",
              "must be a multiple of batch.slots = " + std::to_string(recipe.batch().slots()) +
                  " and divide the global batch of " + std::to_string(*global) +
                  "; 0 lets Weft choose");
}

void CheckAugment(const AugmentRecipe& augment, Checker* check) {
  const std::string at = "data.augment.";
  check->Rule(augment.scale_min() > 0, at + "scale_min", "must be above 0; CLIP has 0.9");
  check->Rule(augment.scale_max() <= 1, at + "scale_max", "must be at most 1 (the whole image)");
  check->Rule(augment.scale_min() <= augment.scale_max(), at + "scale_min",
              "must not exceed data.augment.scale_max");
  check->Rule(augment.ratio_min() > 0, at + "ratio_min", "must be above 0; 3/4 is usual");
  check->Rule(augment.ratio_min() <= augment.ratio_max(), at + "ratio_min",
              "must not exceed data.augment.ratio_max");
  check->Rule(augment.flip_probability() >= 0 && augment.flip_probability() <= 1,
              at + "flip_probability", "must be from 0 to 1");
  check->Rule(augment.jitter_brightness() >= 0, at + "jitter_brightness", "must be at least 0");
  check->Rule(augment.jitter_contrast() >= 0, at + "jitter_contrast", "must be at least 0");
  check->Rule(augment.jitter_saturation() >= 0, at + "jitter_saturation", "must be at least 0");
  const std::string three = "must have 3 values (red, green, blue) or none, which takes CLIP's";
  check->Rule(augment.mean_size() == 3, at + "mean", three);
  check->Rule(augment.std_size() == 3, at + "std", three);
  for (int i = 0; i < augment.std_size(); ++i) {
    check->Rule(augment.std(i) > 0, at + "std[" + std::to_string(i) + "]", "must be above 0");
  }
}

void CheckData(const Recipe& recipe, Checker* check) {
  const DataRecipe& data = recipe.data();
  check->Rule(data.train_shards_size() > 0, "data.train_shards",
              "name at least one shard, as train_shards: \"data/train-{000000..000007}.tar\"; "
              "`weft data pack` makes them");
  CheckShards("data.train_shards", data.train_shards(), check);
  CheckShards("data.eval_shards", data.eval_shards(), check);
  check->Rule(data.image_extensions().find_first_not_of(';') != std::string::npos,
              "data.image_extensions", "must name at least one extension, as \"jpg;png\"");
  check->Rule(!data.text_extension().empty(), "data.text_extension", "must not be empty");
  check->Count("data.loader_threads", true, data.loader_threads(), 1, 1024, "");
  check->Count("data.prefetch", true, data.prefetch(), 1, 1 << 16, "");
  CheckAugment(data.augment(), check);
  CheckOrder(recipe, check);
}

void CheckOptimizer(const Recipe& recipe, Checker* check) {
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

void CheckEval(const Recipe& recipe, Checker* check) {
  check->Rule(!recipe.eval().retrieval() || recipe.data().eval_shards_size() > 0,
              "data.eval_shards", "must name at least one shard, because eval.retrieval is on");
  check->Count("eval.top_images", true, recipe.eval().top_images(), 1, 1000, "");
}

void CheckLayout(const Recipe& recipe, Checker* check) {
  const Layout& layout = recipe.layout();
  const std::string slots = std::to_string(recipe.batch().slots());
  check->Rule(layout.dp() >= 1, "layout.dp", "must be at least 1");
  check->Rule(
      recipe.batch().slots() < 1 || layout.dp() <= recipe.batch().slots(), "layout.dp",
      "must not exceed batch.slots = " + slots + ": a rank without a slot has nothing to do");
  check->Rule(layout.tp() == 1, "layout.tp",
              "must be 1: tensor parallelism is not in this version");
  check->Rule(layout.pp() == 1, "layout.pp", "must be 1: pipelines are not in this version");
  check->Rule(layout.zero_stage() == 1, "layout.zero_stage",
              "must be 1, the only stage of this version");
}

void CheckRun(const RunOptions& run, Checker* check) {
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
  Checker check(filled);
  check.AllFinite();
  CheckTop(filled, &check);
  CheckModel(filled, &check);
  CheckBatch(filled, &check);
  CheckData(filled, &check);
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
