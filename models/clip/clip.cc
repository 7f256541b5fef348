// Shape legend: B samples, S tokens (patches + 1, or context), W width, E embed.
#include "models/clip/clip.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/add.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/norm.h>

#include <utility>

#include "cluster/base/logging.h"
#include "models/layers/dealt_block.h"
#include "models/layers/embedding.h"
#include "models/layers/image_embed.h"
#include "models/layers/layer_norm.h"
#include "models/layers/linear.h"
#include "models/layers/token_rows.h"
#include "models/layers/transformer_block.h"
#include "models/losses/contrastive.h"

namespace weft {
namespace {

constexpr double kNormEps = 1e-5;

LayerNorm MakeNorm(ParameterStore* store, const std::string& name) {
  return {store->Get(name + ".weight"), store->Get(name + ".bias"), kNormEps};
}

// Features leave the towers in fp32 (fp64): the loss is computed there.
at::Tensor UnitRows(const at::Tensor& x_BE) {
  const at::Tensor wide = x_BE.scalar_type() == at::kBFloat16 ? x_BE.to(at::kFloat) : x_BE;
  return wide / wide.norm(2, {-1}, /*keepdim=*/true).clamp_min(1e-12);
}

class VisionHead : public Block {
 public:
  VisionHead(const BlockSpec& spec, const TensorAxis& axis, ParameterStore* store)
      : Block(spec, ParametersOf(spec.params, store)),
        axis_(axis),
        ln_post_(MakeNorm(store, "visual.ln_post")),
        proj_(store->Get("visual.proj"), nullptr, WeightLayout::kInOut) {}

  std::vector<at::Tensor> Forward(std::span<const at::Tensor> inputs,
                                  const MicroBatchContext& context) override {
    const at::Tensor x_BSW =
        JoinTokens(inputs[0], context.samples, spec().inputs[0].dims[0], axis_, spec().name);
    return {UnitRows(proj_(ln_post_(x_BSW.select(1, 0))))};
  }

 private:
  TensorAxis axis_;
  LayerNorm ln_post_;
  Linear proj_;
};

class TextEmbed : public Block {
 public:
  TextEmbed(const BlockSpec& spec, const TensorAxis& axis, ParameterStore* store)
      : Block(spec, ParametersOf(spec.params, store)),
        axis_(axis),
        tokens_(store->Get("token_embedding.weight"), axis),
        positional_(store->Get("positional_embedding")) {}

  std::vector<at::Tensor> Forward(std::span<const at::Tensor> inputs,
                                  const MicroBatchContext&) override {
    const at::Tensor x_BSW = at::add(tokens_(inputs[0]), positional_->value);
    return {SplitTokens(x_BSW, axis_, spec().name)};
  }

 private:
  TensorAxis axis_;
  VocabEmbedding tokens_;
  Parameter* positional_;
};

class TextHead : public Block {
 public:
  TextHead(const BlockSpec& spec, const TensorAxis& axis, ParameterStore* store)
      : Block(spec, ParametersOf(spec.params, store)),
        axis_(axis),
        ln_final_(MakeNorm(store, "ln_final")),
        projection_(store->Get("text_projection"), nullptr, WeightLayout::kInOut) {}

  // ln_final works on rows, so only the end-of-text rows need it.
  std::vector<at::Tensor> Forward(std::span<const at::Tensor> inputs,
                                  const MicroBatchContext& context) override {
    const at::Tensor x_BSW =
        JoinTokens(inputs[0], context.samples, spec().inputs[0].dims[0], axis_, spec().name);
    const at::Tensor rows =
        at::arange(x_BSW.size(0), inputs[1].options()).mul_(x_BSW.size(1)).add_(inputs[1]);
    const at::Tensor eot_BW = at::index_select(x_BSW.flatten(0, 1), 0, rows);
    return {UnitRows(projection_(ln_final_(eot_BW)))};
  }

 private:
  TensorAxis axis_;
  LayerNorm ln_final_;
  Linear projection_;
};

ImageEmbedOptions EmbedOptions(const ClipConfig& config, const PixelNorm& norm) {
  ImageEmbedOptions options;
  options.names = {.class_token = "visual.class_embedding",
                   .positions = "visual.positional_embedding",
                   .patches = "visual.conv1.weight",
                   .norm = "visual.ln_pre"};
  options.patch_size = config.patch_size;
  options.pixel_norm = norm;
  options.norm_eps = kNormEps;
  return options;
}

std::unique_ptr<Block> MakePlainBlock(const ClipConfig& config, const BlockSpec& spec,
                                      const PixelNorm& norm, const TensorAxis& axis,
                                      ParameterStore* store) {
  if (spec.name == "visual.embed")
    return std::make_unique<ImageEmbed>(spec, EmbedOptions(config, norm), axis, store);
  if (spec.name == "visual.head") return std::make_unique<VisionHead>(spec, axis, store);
  if (spec.name == "text.embed") return std::make_unique<TextEmbed>(spec, axis, store);
  if (spec.name == "text.head") return std::make_unique<TextHead>(spec, axis, store);
  TransformerOptions options;
  options.heads = spec.tower == "visual" ? config.vision_heads : config.text_heads;
  options.causal = spec.tower == "text";
  options.norm_eps = kNormEps;
  options.hidden_dropout = config.dropout;
  options.attention_dropout = config.attention_dropout;
  return std::make_unique<TransformerBlock>(spec, options, axis, store);
}

std::unique_ptr<Block> MakeBlock(const ClipConfig& config, const BlockSpec& spec,
                                 const PixelNorm& norm, ParameterStore* store) {
  if (!store->Holds(spec.params)) return nullptr;
  const TensorAxis axis = store->context().tensor();
  if (!IsDealt(spec)) return MakePlainBlock(config, spec, norm, axis, store);
  return std::make_unique<DealtBlock>(MakePlainBlock(config, spec, norm, TensorAxis{}, store),
                                      axis);
}

// The output `name` of the tower's blocks, run one after the other without a tape.
at::Tensor RunTower(Model* model, const std::string& tower, NamedTensors values,
                    const std::string& name) {
  const at::NoGradGuard no_grad;
  MicroBatchContext context;
  context.training = false;
  context.samples = values.begin()->second.size(0);
  for (const auto& block : model->blocks) {
    if (block == nullptr || block->spec().tower != tower) continue;
    std::vector<at::Tensor> inputs;
    for (const ActivationSpec& input : block->spec().inputs)
      inputs.push_back(values.at(input.name));
    const std::vector<at::Tensor> outputs = block->Forward(inputs, context);
    for (size_t i = 0; i < outputs.size(); ++i) values[block->spec().outputs[i].name] = outputs[i];
  }
  return values.at(name);
}

}  // namespace

std::unique_ptr<Model> MakeClip(const ClipConfig& config, const ModelSpec& spec,
                                const PixelNorm& norm, ParameterStore* store) {
  auto model = std::make_unique<Model>();
  model->spec = spec;
  for (const BlockSpec& block : spec.blocks)
    model->blocks.push_back(MakeBlock(config, block, norm, store));
  ContrastiveOptions contrastive;
  contrastive.wave = "main";
  if (store->Holds(spec.joins[0].params))
    model->joins.push_back(std::make_unique<ContrastiveJoin>(spec.joins[0], contrastive, store));
  Wave wave{"main", 0, static_cast<int>(spec.blocks.size()), {"image_features", "text_features"}};
  model->objective.waves = {wave};
  model->objective.phases = {{PhaseKind::kForward, "main"},
                             {PhaseKind::kJoin, "contrastive"},
                             {PhaseKind::kBackward, "main"}};
  return model;
}

at::Tensor EncodeImages(Model* model, const at::Tensor& pixels) {
  return RunTower(model, "visual", {{"pixels", pixels}}, "image_features");
}

at::Tensor EncodeTexts(Model* model, const at::Tensor& ids, const at::Tensor& eot) {
  return RunTower(model, "text", {{"ids", ids}, {"eot", eot}}, "text_features");
}

}  // namespace weft
