// CLIP (Radford et al. 2021) as a ModelSpec: names, shapes and init of OpenAI's model.py, decay groups of open_clip's
// legacy rule (no decay for vectors, scalars, norms, biases and logit_scale; everything else decays, tables too).
//
// Sequence parallelism begins at the end of an embed block and ends at the begin of a head block: those work on all rows
// on every rank (SplitRows, JoinRows), so that of their parameters no gradient is partial.
//
// Blocks: visual.embed, visual.transformer.resblocks.N, visual.head, text.embed, transformer.resblocks.N, text.head;
// join: contrastive (owns logit_scale). Inputs: pixels, ids, eot; outputs: image_features, text_features.
// Thread rule: pure functions.
#pragma once

#include <cstdint>

#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"
#include "models/spec/model_spec.h"

namespace weft {

// The recipe's ClipModel with every default filled in.
struct ClipConfig {
  int64_t embed_dim = 0;
  int64_t image_size = 0;
  int64_t patch_size = 0;
  int64_t vision_width = 0;
  int64_t vision_layers = 0;
  int64_t vision_heads = 0;
  int64_t context_length = 0;
  int64_t vocab_size = 0;
  int64_t text_width = 0;
  int64_t text_layers = 0;
  int64_t text_heads = 0;
  double logit_scale_init = 0;
  double logit_scale_max = 0;
  double dropout = 0;
  double attention_dropout = 0;

  int64_t patches() const { return (image_size / patch_size) * (image_size / patch_size); }
  // Patches and the class token.
  int64_t vision_tokens() const { return patches() + 1; }
};

// Heads that are not set are width / 64. Errors: InvalidArgument, naming `model.clip.FIELD`.
StatusOr<ClipConfig> ResolveClip(const ClipModel& recipe);

ModelSpec MakeClipSpec(const ClipConfig& config);

}  // namespace weft
