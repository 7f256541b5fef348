#include "tests/parity/parity_models.h"

#include <ATen/ATen.h>

#include "cluster/base/logging.h"
#include "cluster/base/philox.h"

namespace weft::testing {
namespace {

constexpr int kSlots = 8;
constexpr int kMicroBatches = 2;
constexpr int kSamples = 2;
constexpr int kVocabulary = 97;
constexpr int kTokens = 10;
constexpr double kDropout = 0.1;
constexpr int kIgnore = -100;

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

// Draws of one micro-batch.
class Draw {
 public:
  Draw(int64_t step, int64_t micro_batch)
      : random_(11, "parity", static_cast<uint64_t>(step)),
        row_(static_cast<uint64_t>(micro_batch)) {}
  int64_t Below(int64_t bound) {
    return static_cast<int64_t>(random_.Below(static_cast<uint64_t>(bound), row_, next_++));
  }

 private:
  KeyedRandom random_;
  uint64_t row_;
  uint64_t next_ = 0;
};

at::Tensor Pixels(Draw* draw, int64_t size) {
  at::Tensor pixels = at::empty({kSamples, 3, size, size}, at::kByte);
  auto* out = pixels.data_ptr<uint8_t>();
  for (int64_t i = 0; i < pixels.numel(); ++i) out[i] = static_cast<uint8_t>(draw->Below(256));
  return pixels;
}

NamedTensors ClipBatch(const ClipModel& clip, Draw* draw) {
  NamedTensors batch;
  batch["pixels"] = Pixels(draw, clip.image_size());
  at::Tensor ids = at::zeros({kSamples, kTokens}, at::kLong);
  at::Tensor eot = at::empty({kSamples}, at::kLong);
  for (int64_t b = 0; b < kSamples; ++b) {
    const int64_t length = 3 + draw->Below(kTokens - 3);
    for (int64_t k = 0; k < length; ++k) ids[b][k] = draw->Below(kVocabulary);
    eot[b] = length - 1;
  }
  batch["ids"] = ids;
  batch["eot"] = eot;
  return batch;
}

NamedTensors RobertaBatch(Draw* draw) {
  at::Tensor ids = at::ones({kSamples, kTokens}, at::kLong);  // <pad>
  at::Tensor labels = at::full({kSamples, kTokens}, kIgnore, at::kLong);
  at::Tensor mask = at::zeros({kSamples, kTokens}, at::kByte);
  for (int64_t b = 0; b < kSamples; ++b) {
    const int64_t length = kTokens / 2 + draw->Below(kTokens / 2 + 1);
    for (int64_t k = 0; k < length; ++k) {
      ids[b][k] = 4 + draw->Below(kVocabulary - 5);
      mask[b][k] = 1;
      if (draw->Below(4) != 0) continue;
      labels[b][k] = ids[b][k].item<int64_t>();
      ids[b][k] = kVocabulary - 1;
    }
  }
  return {{"ids", ids}, {"labels", labels}, {"mask", mask}};
}

NamedTensors LlavaBatch(const LlavaModel& llava, Draw* draw) {
  const int64_t tokens = llava.max_length();
  const int64_t side = llava.image_size() / llava.patch_size();
  const int64_t patches = side * side;
  NamedTensors batch;
  batch["pixels"] = Pixels(draw, llava.image_size());
  at::Tensor ids = at::zeros({kSamples, tokens}, at::kLong);
  at::Tensor labels = at::full({kSamples, tokens}, kIgnore, at::kLong);
  at::Tensor mask = at::zeros({kSamples, tokens}, at::kByte);
  at::Tensor image_at = at::full({kSamples}, -1, at::kLong);
  for (int64_t b = 0; b < kSamples; ++b) {
    const bool has_image = draw->Below(4) != 0;
    const int64_t first = has_image ? 1 + draw->Below(2) : -1;
    const int64_t length = patches + 5 + draw->Below(tokens - patches - 4);
    image_at[b] = first;
    for (int64_t k = 0; k < length; ++k) {
      mask[b][k] = 1;
      if (has_image && k >= first && k < first + patches) continue;
      ids[b][k] = 3 + draw->Below(kVocabulary - 3);
      if (k > patches + 2) labels[b][k] = ids[b][k];
    }
  }
  batch["ids"] = ids;
  batch["labels"] = labels;
  batch["mask"] = mask;
  batch["image_at"] = image_at;
  return batch;
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
    WEFT_CHECK(model == "llava") << "no parity model " << model;
    SetLlava(recipe.mutable_model()->mutable_llava());
  }
  recipe.mutable_batch()->set_slots(kSlots);
  recipe.mutable_batch()->set_micro_batches(kMicroBatches);
  recipe.mutable_batch()->set_micro_batch_size(kSamples);
  recipe.mutable_optimizer()->set_lr(1e-3);
  recipe.mutable_optimizer()->set_eps(1e-6);
  recipe.mutable_optimizer()->set_clip_norm(1);
  return recipe;
}

std::vector<NamedTensors> ParityBatches(const Recipe& recipe, const std::vector<int>& slots,
                                        int64_t step) {
  std::vector<NamedTensors> batches;
  for (const int slot : slots) {
    for (int m = 0; m < recipe.batch().micro_batches(); ++m) {
      Draw draw(step, slot * recipe.batch().micro_batches() + m);
      if (recipe.model().has_clip()) {
        batches.push_back(ClipBatch(recipe.model().clip(), &draw));
      } else if (recipe.model().has_roberta()) {
        batches.push_back(RobertaBatch(&draw));
      } else {
        batches.push_back(LlavaBatch(recipe.model().llava(), &draw));
      }
    }
  }
  return batches;
}

}  // namespace weft::testing
