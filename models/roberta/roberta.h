// RoBERTa (Liu et al. 2019) on the parallel engine: embeddings, post-LN transformer layers, and the head of masked language
// modelling, which projects the chosen positions only. One Train phase; the term "mlm" is the mean over all chosen
// positions of the global batch.
//
// Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "models/spec/roberta_spec.h"
#include "parallel/engine/objective.h"
#include "parallel/engine/parameter_store.h"

namespace weft {

// `spec` is MakeRobertaSpec(config); `store` was made from it and must outlive the model.
std::unique_ptr<Model> MakeRoberta(const RobertaConfig& config, const ModelSpec& spec,
                                   ParameterStore* store);

// Logits [n, vocabulary] of the flat rows (sample, token) that `rows` [n] numbers, without dropout. ids and mask
// [b, tokens]. REQUIRES: one rank holds the whole model.
at::Tensor PredictWords(Model* model, const at::Tensor& ids, const at::Tensor& mask,
                        const at::Tensor& rows);

}  // namespace weft
