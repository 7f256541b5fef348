// RoBERTa (Liu et al. 2019) with the head of masked language modelling as a ModelSpec: names and init of Hugging Face's
// RobertaForMaskedLM, decay on everything as in fairseq. Normalisation behind each residual (post-LN), with eps 1e-5.
//
// Blocks: roberta.embeddings, roberta.encoder.layer.N, lm_head. From the loader: `ids` (embeddings), `mask` (layers: each
// rank reads it itself, so it never crosses a stage's border), `labels` (head). Output: loss.mlm, the sum of the cross
// entropies of the chosen positions, one scalar a micro-batch. lm_head.decoder.weight is the replica of the word
// embeddings.
//
// Sequence parallelism begins at the end of the embeddings and ends at the begin of the head: those work on all rows on
// every rank (SplitRows, JoinRows), so that of their parameters no gradient is partial.
// Errors: InvalidArgument, naming `model.roberta.FIELD`. Thread rule: pure functions.
#pragma once

#include <cstdint>

#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"
#include "models/spec/model_spec.h"

namespace weft {

// The recipe's RobertaModel with every default filled in.
struct RobertaConfig {
  int64_t max_length = 0;
  int64_t vocab_size = 0;
  int64_t width = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t ffn = 0;
  int64_t position_rows = 0;
  double dropout = 0;
  double attention_dropout = 0;

  static constexpr double kNormEps = 1e-5;
  static constexpr int64_t kPadId = 1;
  int64_t mask_id() const { return vocab_size - 1; }
};

StatusOr<RobertaConfig> ResolveRoberta(const RobertaModel& recipe);

ModelSpec MakeRobertaSpec(const RobertaConfig& config);

}  // namespace weft
