// From pixels to the rows of a vision transformer (Dosovitskiy et al. 2021): patches, their projection, a class token in
// front, learned positions, and CLIP's norm.
//
// Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <string>
#include <vector>

#include "models/layers/layer_norm.h"
#include "models/layers/linear.h"
#include "models/layers/patches.h"
#include "parallel/engine/block.h"
#include "parallel/engine/parameter_store.h"
#include "parallel/tensor/tensor_axis.h"

namespace weft {

// Names of the parameters.
struct ImageEmbedNames {
  std::string class_token;
  std::string positions;
  // Of the projection: a convolution's weight over whole patches, without a bias.
  std::string patches;
  // NAME.weight and NAME.bias.
  std::string norm;
};

struct ImageEmbedOptions {
  ImageEmbedNames names;
  int64_t patch_size = 0;
  PixelNorm pixel_norm;
  double norm_eps = 1e-5;
};

// pixels [b, 3, s, s] -> [b, 1 + (s/p)^2, width], split by rows under sequence parallelism.
class ImageEmbed : public Block {
 public:
  ImageEmbed(const BlockSpec& spec, const ImageEmbedOptions& options, const TensorAxis& axis,
             ParameterStore* store);

  std::vector<at::Tensor> Forward(std::span<const at::Tensor> inputs,
                                  const MicroBatchContext& context) override;

 private:
  TensorAxis axis_;
  int64_t patch_size_;
  PixelNorm pixel_norm_;
  Parameter* class_token_;
  Parameter* positions_;
  Linear patches_;
  LayerNorm norm_;
};

}  // namespace weft
