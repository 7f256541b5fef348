// The symmetric contrastive loss of CLIP over the global batch, with its exact gradient:
//   L = 1/(2N) sum_i [ lse_j(s I_i.T_j) - s I_i.T_i ] + [ lse_j(s T_i.I_j) - s T_i.I_i ],  s = exp(logit_scale).
//
// Features of all slots are gathered. A slot computes its own rows of both directions; once the 2N log-sum-exps are
// gathered too, dL/dI of its rows is s/(2N) (softmax over columns + softmax over rows - 2 delta) T: no reduction of
// feature gradients over ranks. The shapes of a slot's products do not depend on the number of ranks.
//
// Features are fp32 (fp64 in FP64). Errors: those of the collectives. Thread rule: one thread.
#pragma once

#include <string>

#include "parallel/engine/objective.h"
#include "parallel/engine/parameter_store.h"

namespace weft {

struct ContrastiveOptions {
  std::string wave;
  // Outputs of the wave: unit rows [b, e].
  std::string images = "image_features";
  std::string texts = "text_features";
};

// Term "contrastive"; metrics "accuracy" (images whose own text has the highest logit) and "logit_scale".
class ContrastiveJoin : public JoinBlock {
 public:
  ContrastiveJoin(JoinSpec spec, const ContrastiveOptions& options, ParameterStore* store);

  // Reads the logit scale.
  void Begin() override;
  Status Run(JoinContext* context) override;

 private:
  // One slot's rows.
  struct Slot {
    at::Tensor images;  // [n, e]
    at::Tensor texts;
    at::Tensor image_logits;  // [n, N]
    at::Tensor text_logits;
    at::Tensor image_lse;  // [n]
    at::Tensor text_lse;
    int64_t first_row = 0;
  };
  Slot ReadSlot(const JoinContext& context, int slot) const;
  void WriteGrad(JoinContext* context, int slot, const std::string& name,
                 const at::Tensor& grad) const;

  ContrastiveOptions options_;
  Parameter* logit_scale_;
  double logit_scale_now_ = 0;
};

}  // namespace weft
