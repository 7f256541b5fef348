// Shape legend: B samples, I images of a row, P patches, T tokens of the tower (P + 1), S tokens of a row, V tower's width, W width, N
// supervised rows.
#include "models/llava/llava.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/add.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/where.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cluster/base/logging.h"
#include "models/layers/activation.h"
#include "models/layers/attention.h"
#include "models/layers/dealt_block.h"
#include "models/layers/embedding.h"
#include "models/layers/image_embed.h"
#include "models/layers/linear.h"
#include "models/layers/rms_norm.h"
#include "models/layers/token_rows.h"
#include "models/layers/transformer_block.h"
#include "models/losses/vocab_cross_entropy.h"

namespace weft {
namespace {

constexpr int64_t kIgnore = -100;

// The class token is dropped; the tower's last norm is not applied.
class ProjectorBlock : public Block {
 public:
  ProjectorBlock(const BlockSpec& spec, const TensorAxis& axis, ParameterStore* store)
      : Block(spec, ParametersOf(spec.params, store)),
        axis_(axis),
        linear_1_(LinearNamed(spec.name + ".linear_1", store)) {
    if (store->Find(spec.name + ".linear_2.weight") != nullptr)
      linear_2_ = LinearNamed(spec.name + ".linear_2", store);
  }

  std::vector<at::Tensor> Forward(std::span<const at::Tensor> inputs,
                                  const MicroBatchContext& context) override {
    const ActivationSpec& tower = spec().inputs[0];
    const int64_t tokens = tower.dims[0];
    // From a dealt encoder all rows come.
    const at::Tensor x_BTV =
        tower.sequence ? JoinTokens(inputs[0], context.samples, tokens, axis_, spec().name)
                       : inputs[0];
    const at::Tensor hidden_BPW = linear_1_(x_BTV.narrow(1, 1, tokens - 1));
    return {linear_2_ ? (*linear_2_)(Gelu(hidden_BPW)) : hidden_BPW};
  }

 private:
  static Linear LinearNamed(const std::string& name, ParameterStore* store) {
    return {store->Get(name + ".weight"), store->Get(name + ".bias")};
  }

  TensorAxis axis_;
  Linear linear_1_;
  std::optional<Linear> linear_2_;
};

// Which patch each word gives way to, without asking a device for the places. An image that does not fit into its row is cut.
struct PatchPlaces {
  at::Tensor rows;    // [B S]: of the patches [B I P]; any where there is none
  at::Tensor inside;  // [B, S, 1]
};

// image_at [B] or [B, I]: images of a row do not overlap.
PatchPlaces FindPatches(const at::Tensor& image_at, int64_t patches, int64_t tokens) {
  const at::Tensor first_BI1 = image_at.to(at::kLong).view({image_at.size(0), -1, 1});
  const at::TensorOptions numbers = first_BI1.options();
  const at::Tensor patch_BIS = at::sub(at::arange(tokens, numbers), first_BI1);
  const at::Tensor inside_BIS =
      first_BI1.ge(0).logical_and(patch_BIS.ge(0)).logical_and(patch_BIS.lt(patches));
  const at::Tensor image_BI1 = at::arange(image_at.numel(), numbers).view_as(first_BI1);
  const at::Tensor row_BIS = patch_BIS.add_(image_BI1.mul(patches)).mul_(inside_BIS);
  return {row_BIS.sum(1).flatten(), inside_BIS.any(1).unsqueeze(2)};
}

class WordEmbeddings : public Block {
 public:
  WordEmbeddings(const BlockSpec& spec, const TensorAxis& axis, ParameterStore* store)
      : Block(spec, ParametersOf(spec.params, store)),
        axis_(axis),
        words_(store->Get(spec.name + ".weight"), axis) {}

  // `image_tokens` is part of the graph in a micro-batch without images too: its gradient is zero there.
  std::vector<at::Tensor> Forward(std::span<const at::Tensor> inputs,
                                  const MicroBatchContext& /*context*/) override {
    const at::Tensor x_BSW = words_(inputs[0]);
    const at::Tensor& image_BPW = inputs[1];
    const PatchPlaces places = FindPatches(inputs[2], image_BPW.size(1), x_BSW.size(1));
    const at::Tensor patches_BSW =
        at::index_select(image_BPW.flatten(0, 1), 0, places.rows).view(x_BSW.sizes());
    return {SplitTokens(at::where(places.inside, patches_BSW, x_BSW), axis_, spec().name)};
  }

 private:
  TensorAxis axis_;
  VocabEmbedding words_;
};

// A row's target is the next token's label; the last has none.
at::Tensor NextLabels(const at::Tensor& labels_BS) {
  const at::Tensor none = at::full({labels_BS.size(0), 1}, kIgnore, labels_BS.options());
  return at::cat({labels_BS.narrow(1, 1, labels_BS.size(1) - 1), none}, 1).flatten();
}

class LanguageHead : public Block {
 public:
  LanguageHead(const BlockSpec& spec, double norm_eps, const TensorAxis& axis,
               ParameterStore* store)
      : Block(spec, ParametersOf(spec.params, store)),
        axis_(axis),
        norm_(store->Get("language_model.model.norm.weight"), norm_eps),
        words_(store->Get(spec.name + ".weight")),
        loss_({words_, nullptr}, axis) {}

  std::vector<at::Tensor> Forward(std::span<const at::Tensor> inputs,
                                  const MicroBatchContext& context) override {
    const at::Tensor labels = NextLabels(inputs[1]);
    const at::Tensor rows = TargetRows(labels, kIgnore, context.targets);
    const at::Tensor x_BSW =
        JoinTokens(inputs[0], context.samples, spec().inputs[0].dims[0], axis_, spec().name);
    const at::Tensor hidden_NW = norm_(at::index_select(x_BSW.flatten(0, 1), 0, rows));
    return {loss_.OfTargets(hidden_NW, at::index_select(labels, 0, rows))};
  }

  at::Tensor Logits(const at::Tensor& x_BSW) const {
    return at::linear(norm_(x_BSW), words_->value);
  }

 private:
  TensorAxis axis_;
  RmsNorm norm_;
  Parameter* words_;
  VocabCrossEntropy loss_;
};

TransformerOptions VisionOptions(const LlavaConfig& config) {
  TransformerOptions options;
  options.names = {.norm_1 = "layer_norm1",
                   .qkv = "",
                   .q = "self_attn.q_proj",
                   .k = "self_attn.k_proj",
                   .v = "self_attn.v_proj",
                   .out = "self_attn.out_proj",
                   .norm_2 = "layer_norm2",
                   .up = "mlp.fc1",
                   .down = "mlp.fc2"};
  options.heads = config.vision_heads;
  options.norm_eps = LlavaConfig::kLayerNormEps;
  options.activation = Activation::kQuickGelu;
  return options;
}

TransformerOptions LanguageOptions(const LlavaConfig& config) {
  TransformerOptions options;
  options.names = {.norm_1 = "input_layernorm",
                   .qkv = "",
                   .q = "self_attn.q_proj",
                   .k = "self_attn.k_proj",
                   .v = "self_attn.v_proj",
                   .out = "self_attn.o_proj",
                   .norm_2 = "post_attention_layernorm",
                   .up = "mlp.up_proj",
                   .gate = "mlp.gate_proj",
                   .down = "mlp.down_proj"};
  options.heads = config.heads;
  options.kv_heads = config.kv_heads;
  options.causal = true;
  options.key_mask = !config.packed();
  options.padding_last = !config.packed();
  options.segments = config.packed();
  options.norm = NormKind::kRmsNorm;
  options.norm_eps = config.norm_eps;
  options.activation = Activation::kSwiGlu;
  options.rope_theta = config.rope_theta;
  options.attention_dropout = config.attention_dropout;
  options.hidden_dropout = config.dropout;
  return options;
}

ImageEmbedOptions EmbedOptions(const LlavaConfig& config, const BlockSpec& spec,
                               const PixelNorm& norm) {
  ImageEmbedOptions options;
  options.names = {.class_token = spec.name + ".class_embedding",
                   .positions = spec.name + ".position_embedding.weight",
                   .patches = spec.name + ".patch_embedding.weight",
                   .norm = "vision_tower.vision_model.pre_layrnorm"};
  options.patch_size = config.patch_size;
  options.pixel_norm = norm;
  options.norm_eps = LlavaConfig::kLayerNormEps;
  return options;
}

std::unique_ptr<Block> MakePlainBlock(const LlavaConfig& config, const BlockSpec& spec,
                                      const PixelNorm& norm, const TensorAxis& axis,
                                      ParameterStore* store) {
  if (spec.name == "vision_tower.vision_model.embeddings")
    return std::make_unique<ImageEmbed>(spec, EmbedOptions(config, spec, norm), axis, store);
  if (spec.name == "multi_modal_projector")
    return std::make_unique<ProjectorBlock>(spec, axis, store);
  if (spec.name == "language_model.model.embed_tokens")
    return std::make_unique<WordEmbeddings>(spec, axis, store);
  if (spec.name == "language_model.lm_head")
    return std::make_unique<LanguageHead>(spec, config.norm_eps, axis, store);
  const bool vision = spec.tower == "visual";
  return std::make_unique<TransformerBlock>(
      spec, vision ? VisionOptions(config) : LanguageOptions(config), axis, store);
}

std::unique_ptr<Block> MakeBlock(const LlavaConfig& config, const BlockSpec& spec,
                                 const PixelNorm& norm, ParameterStore* store) {
  if (!store->Holds(spec.params)) return nullptr;
  const TensorAxis axis = store->context().tensor();
  if (!IsDealt(spec)) return MakePlainBlock(config, spec, norm, axis, store);
  return std::make_unique<DealtBlock>(MakePlainBlock(config, spec, norm, TensorAxis{}, store),
                                      axis);
}

int64_t SupervisedTokens(const NamedTensors& inputs) {
  return TargetRows(NextLabels(inputs.at("labels")), kIgnore).numel();
}

// Ranks without a language layer do not read them.
int64_t SegmentsOf(const NamedTensors& inputs) {
  const auto it = inputs.find("segment_at");
  return it == inputs.end() ? -1 : CountSegments(it->second);
}

}  // namespace

std::unique_ptr<Model> MakeLlava(const LlavaConfig& config, const ModelSpec& spec,
                                 const PixelNorm& norm, ParameterStore* store) {
  auto model = std::make_unique<Model>();
  model->spec = spec;
  for (const BlockSpec& block : spec.blocks)
    model->blocks.push_back(MakeBlock(config, block, norm, store));
  Wave wave;
  wave.name = "main";
  wave.end_block = static_cast<int>(spec.blocks.size());
  wave.losses = {{"loss.lm", "lm", LossScope::kGlobal, SupervisedTokens}};
  if (config.packed()) wave.segments = SegmentsOf;
  model->objective.waves = {wave};
  model->objective.phases = {{PhaseKind::kTrain, "main"}};
  return model;
}

NamedTensors RunLlava(Model* model, NamedTensors inputs) {
  const at::NoGradGuard no_grad;
  MicroBatchContext context;
  context.training = false;
  context.samples = inputs.at("ids").size(0);
  for (const auto& block : model->blocks) {
    std::vector<at::Tensor> read;
    for (const ActivationSpec& input : block->spec().inputs)
      read.push_back(AsEntries(inputs.at(input.name), input));
    if (const auto* head = dynamic_cast<const LanguageHead*>(block.get()); head != nullptr)
      inputs["logits"] = head->Logits(read[0]);
    const std::vector<at::Tensor> made =
        block->Forward(read, context.OfEntries(block->spec().per_sample));
    for (size_t i = 0; i < made.size(); ++i) inputs[block->spec().outputs[i].name] = made[i];
  }
  return inputs;
}

}  // namespace weft
