#include "worker/bench/synthetic_batch.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include "cluster/base/logging.h"
#include "cluster/base/philox.h"
#include "models/spec/llava_spec.h"

namespace weft {
namespace {

constexpr int kIgnore = -100;

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

at::Tensor Pixels(Draw* draw, int64_t samples, int64_t size) {
  at::Tensor pixels = at::empty({samples, 3, size, size}, at::kByte);
  auto* out = pixels.data_ptr<uint8_t>();
  for (int64_t i = 0; i < pixels.numel(); ++i) out[i] = static_cast<uint8_t>(draw->Below(256));
  return pixels;
}

NamedTensors ClipBatch(const ClipModel& clip, int64_t samples, Draw* draw) {
  const int64_t tokens = clip.context_length();
  NamedTensors batch;
  batch["pixels"] = Pixels(draw, samples, clip.image_size());
  at::Tensor ids = at::zeros({samples, tokens}, at::kLong);
  at::Tensor eot = at::empty({samples}, at::kLong);
  for (int64_t b = 0; b < samples; ++b) {
    const int64_t length = 3 + draw->Below(tokens - 3);
    for (int64_t k = 0; k < length; ++k) ids[b][k] = draw->Below(clip.vocab_size());
    eot[b] = length - 1;
  }
  batch["ids"] = ids;
  batch["eot"] = eot;
  return batch;
}

NamedTensors RobertaBatch(const RobertaModel& roberta, int64_t samples, Draw* draw) {
  const int64_t tokens = roberta.max_length();
  at::Tensor ids = at::ones({samples, tokens}, at::kLong);  // <pad>
  at::Tensor labels = at::full({samples, tokens}, kIgnore, at::kLong);
  at::Tensor mask = at::zeros({samples, tokens}, at::kByte);
  for (int64_t b = 0; b < samples; ++b) {
    const int64_t length = tokens / 2 + draw->Below(tokens / 2 + 1);
    for (int64_t k = 0; k < length; ++k) {
      ids[b][k] = 4 + draw->Below(roberta.vocab_size() - 5);
      mask[b][k] = 1;
      if (draw->Below(4) != 0) continue;
      labels[b][k] = ids[b][k].item<int64_t>();
      ids[b][k] = roberta.vocab_size() - 1;
    }
  }
  return {{"ids", ids}, {"labels", labels}, {"mask", mask}};
}

NamedTensors LlavaBatch(const LlavaModel& llava, int64_t samples, Draw* draw) {
  const int64_t tokens = llava.max_length();
  const int64_t side = llava.image_size() / llava.patch_size();
  const int64_t patches = side * side;
  NamedTensors batch;
  batch["pixels"] = Pixels(draw, samples, llava.image_size());
  at::Tensor ids = at::zeros({samples, tokens}, at::kLong);
  at::Tensor labels = at::full({samples, tokens}, kIgnore, at::kLong);
  at::Tensor mask = at::zeros({samples, tokens}, at::kByte);
  at::Tensor image_at = at::full({samples}, -1, at::kLong);
  for (int64_t b = 0; b < samples; ++b) {
    const bool has_image = draw->Below(4) != 0;
    const int64_t first = has_image ? 1 + draw->Below(2) : -1;
    const int64_t length = patches + 5 + draw->Below(tokens - patches - 4);
    image_at[b] = first;
    for (int64_t k = 0; k < length; ++k) {
      mask[b][k] = 1;
      if (has_image && k >= first && k < first + patches) continue;
      ids[b][k] = 3 + draw->Below(llava.vocab_size() - 3);
      if (k > patches + 2) labels[b][k] = ids[b][k];
    }
  }
  batch["ids"] = ids;
  batch["labels"] = labels;
  batch["mask"] = mask;
  batch["image_at"] = image_at;
  return batch;
}

// Row `b` of a packed batch, filled with conversations of different lengths, three of four with a picture.
void FillPackedRow(const LlavaConfig& config, int64_t b, Draw* draw, NamedTensors* batch) {
  at::Tensor ids = (*batch)["ids"][b];
  at::Tensor labels = (*batch)["labels"][b];
  at::Tensor segment_at = (*batch)["segment_at"][b];
  at::Tensor image_at = (*batch)["image_at"][b];
  int64_t pictures = 0;
  int64_t begin = 0;
  while (true) {
    const int64_t patches = draw->Below(4) != 0 ? config.patches() : 0;
    const int64_t first = begin + 1 + draw->Below(2);
    const int64_t end = first + patches + 2 + draw->Below(3);
    if (end > config.max_length || (patches > 0 && pictures == config.pictures)) break;
    if (patches > 0) image_at[pictures++] = first;
    for (int64_t k = begin; k < end; ++k) {
      segment_at[k] = begin;
      if (k >= first && k < first + patches) continue;
      ids[k] = 3 + draw->Below(config.vocab_size - 3);
      if (k > first + patches) labels[k] = ids[k];
    }
    begin = end;
  }
  for (int64_t p = pictures; p < config.pictures; ++p) (*batch)["pixels"][b][p].zero_();
}

NamedTensors PackedLlavaBatch(const LlavaConfig& config, int64_t samples, Draw* draw) {
  const int64_t tokens = config.max_length;
  NamedTensors batch;
  batch["pixels"] = Pixels(draw, samples * config.pictures, config.image_size)
                        .view({samples, config.pictures, 3, config.image_size, config.image_size});
  batch["ids"] = at::zeros({samples, tokens}, at::kLong);
  batch["labels"] = at::full({samples, tokens}, kIgnore, at::kLong);
  batch["segment_at"] = at::arange(tokens, at::kLong).expand({samples, tokens}).contiguous();
  batch["image_at"] = at::full({samples, config.pictures}, -1, at::kLong);
  for (int64_t b = 0; b < samples; ++b) FillPackedRow(config, b, draw, &batch);
  return batch;
}

}  // namespace

std::vector<NamedTensors> SyntheticBatches(const Recipe& recipe, const std::vector<int>& slots,
                                           int64_t step) {
  const int64_t samples = recipe.batch().micro_batch_size();
  std::vector<NamedTensors> batches;
  for (const int slot : slots) {
    for (int m = 0; m < recipe.batch().micro_batches(); ++m) {
      Draw draw(step, slot * recipe.batch().micro_batches() + m);
      if (recipe.model().has_clip()) {
        batches.push_back(ClipBatch(recipe.model().clip(), samples, &draw));
      } else if (recipe.model().has_roberta()) {
        batches.push_back(RobertaBatch(recipe.model().roberta(), samples, &draw));
      } else {
        WEFT_CHECK(recipe.model().has_llava()) << "no synthetic batches of this model";
        const StatusOr<LlavaConfig> config = ResolveLlava(recipe);
        WEFT_CHECK(config.ok()) << config.status();
        batches.push_back(config->packed() ? PackedLlavaBatch(*config, samples, &draw)
                                           : LlavaBatch(recipe.model().llava(), samples, &draw));
      }
    }
  }
  return batches;
}

}  // namespace weft
