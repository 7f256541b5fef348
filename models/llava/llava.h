// LLaVA (Liu et al. 2023) on the parallel engine: a CLIP ViT up to the layer that is read, the projector, word embeddings
// with an image's patches among them, a LLaMA (Touvron et al. 2023), and the head, which projects the rows before
// supervised tokens only. One Train phase; the term "lm" is the mean over all supervised tokens of the global batch, where
// the authors' code takes the mean of each micro-batch first.
//
// Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "models/layers/patches.h"
#include "models/spec/llava_spec.h"
#include "parallel/engine/objective.h"
#include "parallel/engine/parameter_store.h"

namespace weft {

// `spec` is MakeLlavaSpec(config); `store` was made from it and must outlive the model.
std::unique_ptr<Model> MakeLlava(const LlavaConfig& config, const ModelSpec& spec,
                                 const PixelNorm& norm, ParameterStore* store);

// Every activation of a forward pass without dropout, by name, and "logits" [b, tokens, vocabulary]. `inputs` are the
// loader's. REQUIRES: one rank holds the whole model.
NamedTensors RunLlava(Model* model, NamedTensors inputs);

}  // namespace weft
