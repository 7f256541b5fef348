#include "cluster/config/model_rules.h"

#include <string>

namespace weft {
namespace {

void CheckProbability(const std::string& field, double value, RecipeChecker* check) {
  check->Rule(value >= 0 && value < 1, field, "must be at least 0 and below 1");
}

void CheckClipTower(const std::string& tower, int width, int layers, int heads, bool has_width,
                    bool has_layers, bool has_heads, RecipeChecker* check) {
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

void CheckClip(const Recipe& recipe, RecipeChecker* check) {
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
  CheckProbability("model.clip.dropout", clip.dropout(), check);
  CheckProbability("model.clip.attention_dropout", clip.attention_dropout(), check);
  const auto global = GlobalBatch(recipe.batch());
  check->Rule(!global || *global >= 2, "batch.micro_batch_size",
              "gives a global batch of 1; a contrastive loss needs at least 2 pairs");
  check->Require("data.vocabulary",
                 "name a file of byte-pair merges; `weft data vocab` trains one from captions");
}

// What RoBERTa and LLaVA share: a transformer of `width`, cut into `heads`.
void CheckTransformer(const std::string& family, int width, bool has_width, int heads,
                      bool has_heads, int layers, bool has_layers, const std::string& example,
                      RecipeChecker* check) {
  check->Count(family + ".width", has_width, width, 1, 1 << 16, example);
  check->Count(family + ".layers", has_layers, layers, 1, 1024, example);
  check->Count(family + ".heads", has_heads, heads, 1, 1024, example);
  check->Rule(width < 1 || heads < 1 || width % heads == 0, family + ".width",
              "must be a multiple of " + family + ".heads = " + std::to_string(heads));
}

void CheckRoberta(const Recipe& recipe, RecipeChecker* check) {
  const RobertaModel& model = recipe.model().roberta();
  const std::string family = "model.roberta";
  CheckTransformer(family, model.width(), model.has_width(), model.heads(), model.has_heads(),
                   model.layers(), model.has_layers(), "base has 768, 12 and 12", check);
  check->Count(family + ".ffn", true, model.has_ffn() ? model.ffn() : 1, 1, 1 << 20,
               "base has 3072");
  check->Count(family + ".max_length", true, model.max_length(), 3, 1 << 20, "base has 512");
  check->Count(family + ".vocab_size", true, model.vocab_size(), 261, 1 << 24,
               "256 bytes and 5 special ids, and one for each merge of data.vocabulary");
  check->Rule(!model.has_position_rows() || model.position_rows() >= model.max_length() + 2,
              family + ".position_rows",
              "must be at least max_length + 2 = " + std::to_string(model.max_length() + 2) +
                  ": positions begin at 2");
  CheckProbability(family + ".dropout", model.dropout(), check);
  CheckProbability(family + ".attention_dropout", model.attention_dropout(), check);
  check->Require("data.vocabulary",
                 "name a file of byte-pair merges; `weft data vocab` trains one from texts");
}

void CheckLlavaTower(const LlavaModel& model, RecipeChecker* check) {
  const std::string family = "model.llava";
  check->Count(family + ".image_size", true, model.image_size(), 1, 4096, "LLaVA-1.5 has 336");
  check->Count(family + ".patch_size", true, model.patch_size(), 1, 4096, "LLaVA-1.5 has 14");
  if (model.image_size() > 0 && model.patch_size() > 0) {
    check->Rule(model.image_size() % model.patch_size() == 0, family + ".patch_size",
                "must divide model.llava.image_size = " + std::to_string(model.image_size()));
    const int64_t side = model.image_size() / model.patch_size();
    check->Rule(side * side < model.max_length(), family + ".max_length",
                "must exceed the " + std::to_string(side * side) + " patches of an image");
  }
  check->Count(family + ".vision_width", true, model.vision_width(), 1, 1 << 16,
               "ViT-L/14 has 1024");
  check->Count(family + ".vision_layers", true, model.vision_layers(), 1, 1024, "ViT-L/14 has 24");
  check->Count(family + ".vision_heads", true, model.vision_heads(), 1, 1024, "ViT-L/14 has 16");
  if (model.vision_heads() > 0) {
    check->Rule(
        model.vision_width() % model.vision_heads() == 0, family + ".vision_width",
        "must be a multiple of model.llava.vision_heads = " + std::to_string(model.vision_heads()));
  }
  check->Rule(!model.has_vision_ffn() || model.vision_ffn() > 0, family + ".vision_ffn",
              "must be at least 1; not set, it is 4 * vision_width");
  check->Rule(model.select_layer() <= -1 && model.select_layer() >= -model.vision_layers(),
              family + ".select_layer",
              "must be from -vision_layers to -1; LLaVA reads the last but one, -2");
}

void CheckLlava(const Recipe& recipe, RecipeChecker* check) {
  const LlavaModel& model = recipe.model().llava();
  const std::string family = "model.llava";
  CheckLlavaTower(model, check);
  CheckTransformer(family, model.width(), model.has_width(), model.heads(), model.has_heads(),
                   model.layers(), model.has_layers(), "LLaMA-7B has 4096, 32 and 32", check);
  check->Rule(
      !model.has_kv_heads() || (model.kv_heads() > 0 && model.heads() % model.kv_heads() == 0),
      family + ".kv_heads", "must divide model.llava.heads = " + std::to_string(model.heads()));
  check->Rule(model.heads() < 1 || (model.width() / model.heads()) % 2 == 0, family + ".heads",
              "must leave heads of even width: rotary positions turn pairs");
  check->Count(family + ".ffn", model.has_ffn(), model.ffn(), 1, 1 << 20, "LLaMA-7B has 11008");
  check->Count(family + ".max_length", true, model.max_length(), 2, 1 << 20, "LLaVA has 2048");
  check->Count(family + ".vocab_size", true, model.vocab_size(), 259, 1 << 24,
               "256 bytes and 3 special ids, and one for each merge of data.vocabulary");
  check->Rule(model.norm_eps() > 0, family + ".norm_eps", "must be above 0; LLaMA-2 has 1e-5");
  check->Rule(model.rope_theta() > 1, family + ".rope_theta", "must be above 1; LLaMA has 1e4");
  CheckProbability(family + ".dropout", model.dropout(), check);
  CheckProbability(family + ".attention_dropout", model.attention_dropout(), check);
  check->Require("data.vocabulary",
                 "name a file of byte-pair merges; `weft data vocab` trains one from texts");
}

}  // namespace

void CheckModelRules(const Recipe& recipe, RecipeChecker* check) {
  switch (recipe.model().family_case()) {
    case ModelRecipe::kClip:
      return CheckClip(recipe, check);
    case ModelRecipe::kRoberta:
      return CheckRoberta(recipe, check);
    case ModelRecipe::kLlava:
      return CheckLlava(recipe, check);
    case ModelRecipe::FAMILY_NOT_SET:
      check->Rule(false, "model", "choose a family, as model { clip { ... } }");
  }
}

}  // namespace weft
