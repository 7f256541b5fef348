// LLaVA and LLaVA-1.5 (Liu et al. 2023) as a ModelSpec: names of Hugging Face's LlavaForConditionalGeneration, init of its
// parts, no decay of norms and biases.
//
// Blocks: vision_tower.vision_model.{embeddings, encoder.layers.N}, multi_modal_projector, language_model.{model.
// embed_tokens, model.layers.N, lm_head} (the last with the final norm). The tower ends with the layer whose patches are
// read (select_layer): what the reference has behind it (its last layer, post_layernorm) is never used and does not exist
// here. From the loader: `pixels` (vision embeddings); `ids`, `image_at` (word embeddings); `mask` (layers: each rank
// reads it itself, so it never crosses a stage's border); `labels` (head). `image_tokens`, the projector's output, is
// the one activation besides the chain's. Output: loss.lm, the sum of the cross entropies of the supervised tokens, one
// scalar a micro-batch.
//
// Packed rows (data.conversation.pack) hold several conversations and up to LlavaConfig::pictures pictures: the tower and
// the projector work on so many entries a sample, whether they are there or not; `image_at` has as many places, and the
// layers read `segment_at`, where each token's conversation begins, instead of `mask`. forward_flops counts all pictures;
// in attention a row counts as so many conversations of equal length, as without packing it counts as one that fills it.
//
// Sequence parallelism: the tower's rows are split from the end of its embeddings to the begin of the projector, the
// language model's from the end of its embeddings to the begin of the head. Embeddings, projector and head work on all
// rows on every rank, so that of their parameters no gradient is partial.
// Errors: InvalidArgument, naming `model.llava.FIELD` or `data.conversation.FIELD`. Thread rule: pure functions.
#pragma once

#include <cstdint>

#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"
#include "models/spec/model_spec.h"

namespace weft {

// The recipe's LlavaModel with every default filled in, and what a row of its data holds.
struct LlavaConfig {
  int64_t image_size = 0;
  int64_t patch_size = 0;
  int64_t vision_width = 0;
  int64_t vision_layers = 0;
  int64_t vision_heads = 0;
  int64_t vision_ffn = 0;
  // Layers of the tower that exist: up to the one that is read.
  int64_t vision_blocks = 0;
  Projector projector = PROJECTOR_MLP2X_GELU;
  int64_t max_length = 0;
  int64_t vocab_size = 0;
  int64_t width = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t ffn = 0;
  double norm_eps = 0;
  double rope_theta = 0;
  double dropout = 0;
  double attention_dropout = 0;
  // Most pictures of a packed row; 0: a row is one conversation with one picture or none.
  int64_t pictures = 0;

  bool packed() const { return pictures > 0; }
  int64_t pictures_of_row() const { return packed() ? pictures : 1; }
  // Of the vision tower.
  static constexpr double kLayerNormEps = 1e-5;
  int64_t patches() const { return (image_size / patch_size) * (image_size / patch_size); }
  // Patches and the class token.
  int64_t vision_tokens() const { return patches() + 1; }
  int64_t head_width() const { return width / heads; }
};

// REQUIRES: recipe.model() has a llava. Of the rest it reads data.conversation.
StatusOr<LlavaConfig> ResolveLlava(const Recipe& recipe);

ModelSpec MakeLlavaSpec(const LlavaConfig& config);

}  // namespace weft
