#include "tests/parity/parity_models.h"

#include "cluster/base/logging.h"

namespace weft::testing {
namespace {

constexpr int kSlots = 8;
constexpr int kMicroBatches = 2;
constexpr int kSamples = 2;
constexpr int kVocabulary = 97;
constexpr int kTokens = 10;
constexpr double kDropout = 0.1;

void SetClip(ClipModel* clip) {
  clip->set_embed_dim(24);
  clip->set_image_size(16);
  clip->set_patch_size(8);
  clip->set_vision_width(64);
  clip->set_vision_layers(8);
  clip->set_vision_heads(8);
  clip->set_context_length(kTokens);
  clip->set_vocab_size(kVocabulary);
  clip->set_text_width(64);
  clip->set_text_layers(8);
  clip->set_text_heads(8);
  clip->set_dropout(kDropout);
  clip->set_attention_dropout(kDropout);
}

void SetRoberta(RobertaModel* roberta) {
  roberta->set_max_length(kTokens);
  roberta->set_vocab_size(kVocabulary);
  roberta->set_width(64);
  roberta->set_layers(8);
  roberta->set_heads(8);
  roberta->set_dropout(kDropout);
  roberta->set_attention_dropout(kDropout);
}

void SetLlava(LlavaModel* llava) {
  llava->set_image_size(16);
  llava->set_patch_size(8);
  llava->set_vision_width(64);
  llava->set_vision_layers(9);  // the last but one is read: 8 blocks
  llava->set_vision_heads(8);
  llava->set_max_length(kTokens + 4);
  llava->set_vocab_size(kVocabulary);
  llava->set_width(64);
  llava->set_layers(8);
  llava->set_heads(8);
  llava->set_kv_heads(2);
  llava->set_ffn(160);
  llava->set_dropout(kDropout);
  llava->set_attention_dropout(kDropout);
}

// Rows of several conversations, with up to three pictures; as many blocks as eight stages need.
void SetPacked(Recipe* recipe) {
  LlavaModel* llava = recipe->mutable_model()->mutable_llava();
  llava->set_vision_layers(3);
  llava->set_layers(3);
  llava->set_max_length(2 * kTokens);
  recipe->mutable_data()->mutable_conversation()->set_pack(true);
}

}  // namespace

Recipe ParityRecipe(const std::string& model) {
  Recipe recipe;
  recipe.set_seed(5);
  recipe.set_steps(5);
  recipe.set_precision(FP64);
  if (model == "clip") {
    SetClip(recipe.mutable_model()->mutable_clip());
  } else if (model == "roberta") {
    SetRoberta(recipe.mutable_model()->mutable_roberta());
  } else {
    WEFT_CHECK(model == "llava" || model == "llava-packed") << "no parity model " << model;
    SetLlava(recipe.mutable_model()->mutable_llava());
    if (model == "llava-packed") SetPacked(&recipe);
  }
  recipe.mutable_batch()->set_slots(kSlots);
  recipe.mutable_batch()->set_micro_batches(kMicroBatches);
  recipe.mutable_batch()->set_micro_batch_size(kSamples);
  recipe.mutable_optimizer()->set_lr(1e-3);
  recipe.mutable_optimizer()->set_eps(1e-6);
  recipe.mutable_optimizer()->set_clip_norm(1);
  return recipe;
}

}  // namespace weft::testing
