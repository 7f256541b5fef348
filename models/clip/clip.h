// CLIP (Radford et al. 2021) on the parallel engine: two towers and a contrastive join. Encoders for evaluation run the
// same blocks without a tape.
//
// Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "models/layers/patches.h"
#include "models/spec/clip_spec.h"
#include "parallel/engine/objective.h"
#include "parallel/engine/parameter_store.h"

namespace weft {

// `spec` is MakeClipSpec(config), perhaps with frozen parameters; `store` was made from it and must outlive the model.
std::unique_ptr<Model> MakeClip(const ClipConfig& config, const ModelSpec& spec,
                                const PixelNorm& norm, ParameterStore* store);

// Unit rows [b, embed]. pixels: [b, 3, s, s] u8 or normalised; ids [b, context]; eot [b]: position of the end-of-text token.
at::Tensor EncodeImages(Model* model, const at::Tensor& pixels);
at::Tensor EncodeTexts(Model* model, const at::Tensor& ids, const at::Tensor& eot);

}  // namespace weft
