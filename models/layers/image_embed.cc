// Shape legend: B samples, P patches, S tokens (P + 1), W width.
#include "models/layers/image_embed.h"

#include <ATen/ops/add.h>
#include <ATen/ops/cat.h>

#include "models/layers/token_rows.h"
#include "models/layers/transformer_block.h"

namespace weft {

ImageEmbed::ImageEmbed(const BlockSpec& spec, const ImageEmbedOptions& options,
                       const TensorAxis& axis, ParameterStore* store)
    : Block(spec, ParametersOf(spec.params, store)),
      axis_(axis),
      patch_size_(options.patch_size),
      pixel_norm_(options.pixel_norm),
      class_token_(store->Get(options.names.class_token)),
      positions_(store->Get(options.names.positions)),
      patches_(store->Get(options.names.patches), nullptr),
      norm_(store->Get(options.names.norm + ".weight"), store->Get(options.names.norm + ".bias"),
            options.norm_eps) {}

std::vector<at::Tensor> ImageEmbed::Forward(std::span<const at::Tensor> inputs,
                                            const MicroBatchContext& /*context*/) {
  const at::ScalarType type = positions_->value.scalar_type();
  const at::Tensor patches_BPW = patches_(Patches(inputs[0], patch_size_, pixel_norm_, type));
  const at::Tensor class_B1W =
      class_token_->value.expand({patches_BPW.size(0), 1, patches_BPW.size(2)});
  const at::Tensor x_BSW = at::add(at::cat({class_B1W, patches_BPW}, 1), positions_->value);
  return {SplitTokens(norm_(x_BSW), axis_, spec().name)};
}

}  // namespace weft
