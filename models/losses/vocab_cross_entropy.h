// The projection to a vocabulary and its cross-entropy in one Function, split over the tensor-parallel ranks by vocabulary
// (Shoeybi et al. 2019). Logits exist a run of rows at a time and only of a rank's own words; the backward computes them
// again, so what is kept are the rows and one log-sum-exp each. Softmax in fp32 (fp64); the gradient is exact.
//
//   loss of a row = (1 - e) (lse - z_label) + e (lse - mean_v z_v) + c lse^2,   e: label smoothing, c: z-loss.
//
// Errors: throws CommError; LibTorch's exception if a label is neither `ignore` nor in the vocabulary.
// Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include "models/layers/linear.h"
#include "parallel/tensor/tensor_axis.h"

namespace weft {

struct CrossEntropyOptions {
  int64_t ignore = -100;
  double label_smoothing = 0;
  double z_loss = 0;
};

// Where labels [...] differ from `ignore`: numbers of the flat rows, ascending. Heads select these before they project.
// `count`: how many they are, if that is known (MicroBatchContext::targets): a device then need not be asked.
at::Tensor TargetRows(const at::Tensor& labels, int64_t ignore = -100, int64_t count = -1);

class VocabCrossEntropy {
 public:
  // The weight is [vocabulary / tp, width]; the bias may be null.
  VocabCrossEntropy(LinearParameters projection, const TensorAxis& axis,
                    const CrossEntropyOptions& options = {});

  // hidden [n, width] and labels [n], the same on every rank -> the sum over rows with a label, a scalar in fp32 (fp64).
  at::Tensor operator()(const at::Tensor& hidden, const at::Tensor& labels) const;
  // The same where every row has a label. One outside of the vocabulary throws on the CPU; a GPU stops at it.
  at::Tensor OfTargets(const at::Tensor& hidden, const at::Tensor& labels) const;

 private:
  LinearParameters projection_;
  TensorAxis axis_;
  CrossEntropyOptions options_;
};

}  // namespace weft
