#include "models/spec/llava_spec.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "models/spec/checks.h"
#include "models/spec/param_list.h"

namespace weft {
namespace {

constexpr const char* kVision = "vision_tower.vision_model.";
constexpr const char* kLanguage = "language_model.";

// The reference's rule: neither norms nor names with "bias".
bool Decays(const ParamSpec& param) {
  return param.name.find("norm") == std::string::npos &&
         param.name.find("bias") == std::string::npos;
}

// What passes between the blocks of a tower; under sequence parallelism each rank has its own rows.
ActivationSpec Rows(const std::string& name, int64_t tokens, int64_t width) {
  return {.name = name, .dims = {tokens, width}, .differentiable = true, .sequence = true};
}

ActivationSpec FromLoader(const std::string& name, std::vector<int64_t> dims) {
  return {.name = name, .dims = std::move(dims), .differentiable = false};
}

double LinearFlops(int64_t rows, int64_t out, int64_t in) {
  return 2 * static_cast<double>(rows) * static_cast<double>(out) * static_cast<double>(in);
}

// Scores and weighted values, of `keys` keys a token.
double AttentionFlops(int64_t tokens, int64_t keys, int64_t width) {
  return 4 * static_cast<double>(tokens) * static_cast<double>(keys) * static_cast<double>(width);
}

// A block that works on each picture: what it reads and makes has an entry a picture, and it costs as much as all of them.
void WorkOnPictures(const LlavaConfig& config, BlockSpec* block) {
  block->per_sample = config.pictures_of_row();
  block->forward_flops *= static_cast<double>(block->per_sample);
  for (ActivationSpec& input : block->inputs) input.per_sample = block->per_sample;
  for (ActivationSpec& output : block->outputs) output.per_sample = block->per_sample;
}

BlockSpec MakeVisionEmbeddings(const LlavaConfig& config) {
  const int64_t width = config.vision_width;
  BlockSpec block;
  block.name = std::string(kVision) + "embeddings";
  block.tower = "visual";
  ParamList params(&block, Decays);
  params.Add(block.name + ".class_embedding", {width},
             Init::Normal(1 / std::sqrt(static_cast<double>(width))));
  params.Add(block.name + ".patch_embedding.weight",
             {width, 3, config.patch_size, config.patch_size}, Init::Normal(0.02));
  params.Add(block.name + ".position_embedding.weight", {config.vision_tokens(), width},
             Init::Normal(0.02));
  params.LayerNorm(std::string(kVision) + "pre_layrnorm", width, NormRows::kAll);
  block.forward_flops =
      LinearFlops(config.patches(), width, 3 * config.patch_size * config.patch_size);
  block.inputs = {FromLoader("pixels", {3, config.image_size, config.image_size})};
  block.outputs = {Rows(block.name + ".out", config.vision_tokens(), width)};
  WorkOnPictures(config, &block);
  return block;
}

BlockSpec MakeVisionLayer(const LlavaConfig& config, int64_t layer, const std::string& input) {
  const int64_t width = config.vision_width;
  const int64_t tokens = config.vision_tokens();
  const double scale = 1 / std::sqrt(static_cast<double>(width));
  const double deep_scale = scale / std::sqrt(2 * static_cast<double>(config.vision_layers));
  const auto linear = [](double std) { return LinearInit{Init::Normal(std), Init::Constant(0)}; };
  BlockSpec block;
  block.name = std::string(kVision) + "encoder.layers." + std::to_string(layer);
  block.tower = "visual";
  const std::string prefix = block.name + ".";
  ParamList params(&block, Decays);
  params.LayerNorm(prefix + "layer_norm1", width, NormRows::kOwn);
  for (const char* part : {"q_proj", "k_proj", "v_proj"}) {
    params.Column(prefix + "self_attn." + part, width, width, config.vision_heads,
                  linear(deep_scale));
  }
  params.Row(prefix + "self_attn.out_proj", width, width, config.vision_heads, linear(scale));
  params.LayerNorm(prefix + "layer_norm2", width, NormRows::kOwn);
  params.Column(prefix + "mlp.fc1", config.vision_ffn, width, 0, linear(scale / std::sqrt(2.0)));
  params.Row(prefix + "mlp.fc2", width, config.vision_ffn, 0, linear(deep_scale));
  block.forward_flops = LinearFlops(tokens, 4 * width, width) +
                        LinearFlops(tokens, 2 * config.vision_ffn, width) +
                        AttentionFlops(tokens, tokens, width);
  block.inputs = {Rows(input, tokens, width)};
  block.outputs = {Rows(block.name + ".out", tokens, width)};
  WorkOnPictures(config, &block);
  return block;
}

BlockSpec MakeProjector(const LlavaConfig& config, const std::string& input) {
  const bool linear = config.projector == PROJECTOR_LINEAR;
  const auto init = [](int64_t in) {
    return LinearInit{Init::FanInUniform(in), Init::FanInUniform(in)};
  };
  BlockSpec block;
  block.name = "multi_modal_projector";
  block.tower = "projector";
  ParamList params(&block, Decays);
  params.Linear(block.name + ".linear_1", config.width, config.vision_width,
                init(config.vision_width));
  if (!linear)
    params.Linear(block.name + ".linear_2", config.width, config.width, init(config.width));
  block.forward_flops = LinearFlops(config.patches(), config.width,
                                    config.vision_width + (linear ? 0 : config.width));
  block.inputs = {Rows(input, config.vision_tokens(), config.vision_width)};
  block.outputs = {{.name = "image_tokens", .dims = {config.patches(), config.width}}};
  WorkOnPictures(config, &block);
  return block;
}

BlockSpec MakeWordEmbeddings(const LlavaConfig& config) {
  BlockSpec block;
  block.name = std::string(kLanguage) + "model.embed_tokens";
  block.tower = "language";
  ParamList params(&block, Decays);
  params.Add(block.name + ".weight", {config.vocab_size, config.width}, Init::Normal(0.02)).tp_dim =
      0;
  block.inputs = {FromLoader("ids", {config.max_length}),
                  {.name = "image_tokens",
                   .dims = {config.patches(), config.width},
                   .per_sample = config.pictures_of_row()},
                  FromLoader("image_at", config.packed() ? std::vector<int64_t>{config.pictures}
                                                         : std::vector<int64_t>{})};
  block.outputs = {Rows(block.name + ".out", config.max_length, config.width)};
  return block;
}

BlockSpec MakeLanguageLayer(const LlavaConfig& config, int64_t layer, const std::string& input) {
  const int64_t width = config.width;
  const int64_t kv_width = config.kv_heads * config.head_width();
  const LinearInit normal{Init::Normal(0.02), std::nullopt};
  BlockSpec block;
  block.name = std::string(kLanguage) + "model.layers." + std::to_string(layer);
  block.tower = "language";
  const std::string prefix = block.name + ".";
  ParamList params(&block, Decays);
  params.RmsNorm(prefix + "input_layernorm", width, NormRows::kOwn);
  params.Column(prefix + "self_attn.q_proj", width, width, config.heads, normal);
  params.Column(prefix + "self_attn.k_proj", kv_width, width, config.kv_heads, normal);
  params.Column(prefix + "self_attn.v_proj", kv_width, width, config.kv_heads, normal);
  params.Row(prefix + "self_attn.o_proj", width, width, config.heads, normal);
  params.RmsNorm(prefix + "post_attention_layernorm", width, NormRows::kOwn);
  params.Column(prefix + "mlp.gate_proj", config.ffn, width, 0, normal);
  params.Column(prefix + "mlp.up_proj", config.ffn, width, 0, normal);
  params.Row(prefix + "mlp.down_proj", width, config.ffn, 0, normal);
  block.forward_flops =
      LinearFlops(config.max_length, 2 * width + 2 * kv_width, width) +
      LinearFlops(config.max_length, 3 * config.ffn, width) +
      AttentionFlops(config.max_length, config.max_length / config.pictures_of_row(), width);
  block.inputs = {Rows(input, config.max_length, width),
                  FromLoader(config.packed() ? "segment_at" : "mask", {config.max_length})};
  block.outputs = {Rows(block.name + ".out", config.max_length, width)};
  return block;
}

BlockSpec MakeLanguageHead(const LlavaConfig& config, const std::string& input) {
  BlockSpec block;
  block.name = std::string(kLanguage) + "lm_head";
  block.tower = "language";
  ParamList params(&block, Decays);
  params.RmsNorm(std::string(kLanguage) + "model.norm", config.width, NormRows::kAll);
  params.Add(block.name + ".weight", {config.vocab_size, config.width}, Init::Normal(0.02)).tp_dim =
      0;
  block.forward_flops = LinearFlops(config.max_length, config.vocab_size, config.width);
  block.inputs = {Rows(input, config.max_length, config.width),
                  FromLoader("labels", {config.max_length})};
  block.outputs = {{.name = "loss.lm", .dims = {}, .wide = true}};
  return block;
}

void FillVision(const LlavaModel& recipe, LlavaConfig* config) {
  config->image_size = recipe.image_size();
  config->patch_size = recipe.patch_size();
  config->vision_width = recipe.vision_width();
  config->vision_layers = recipe.vision_layers();
  config->vision_heads = recipe.vision_heads();
  config->vision_ffn = recipe.has_vision_ffn() ? recipe.vision_ffn() : 4 * config->vision_width;
  config->vision_blocks = config->vision_layers + recipe.select_layer() + 1;
  config->projector = recipe.projector();
}

void FillLanguage(const LlavaModel& recipe, LlavaConfig* config) {
  config->max_length = recipe.max_length();
  config->vocab_size = recipe.vocab_size();
  config->width = recipe.width();
  config->layers = recipe.layers();
  config->heads = recipe.heads();
  config->kv_heads = recipe.has_kv_heads() ? recipe.kv_heads() : config->heads;
  config->ffn = recipe.ffn();
  config->norm_eps = recipe.norm_eps();
  config->rope_theta = recipe.rope_theta();
  config->dropout = recipe.dropout();
  config->attention_dropout = recipe.attention_dropout();
}

// A conversation with a picture is its patches and two words at least.
Status FillPictures(const ConversationRecipe& recipe, LlavaConfig* config) {
  if (!recipe.pack()) return OkStatus();
  const int64_t most = std::max<int64_t>(1, config->max_length / (config->patches() + 2));
  config->pictures = recipe.pack_pictures() > 0 ? recipe.pack_pictures() : most;
  if (config->pictures <= most) return OkStatus();
  return InvalidArgument("data.conversation.pack_pictures: " + std::to_string(config->pictures) +
                         " pictures of " + std::to_string(config->patches()) +
                         " patches never fit into a row of model.llava.max_length = " +
                         std::to_string(config->max_length) + " tokens; at most " +
                         std::to_string(most) + " do");
}

}  // namespace

StatusOr<LlavaConfig> ResolveLlava(const Recipe& whole) {
  const LlavaModel& recipe = whole.model().llava();
  LlavaConfig config;
  FillVision(recipe, &config);
  FillLanguage(recipe, &config);
  const std::string family = "model.llava";
  WEFT_RETURN_IF_ERROR(CheckAllPositive(family, {{"image_size", config.image_size},
                                                 {"patch_size", config.patch_size},
                                                 {"vision_width", config.vision_width},
                                                 {"vision_layers", config.vision_layers},
                                                 {"vision_ffn", config.vision_ffn},
                                                 {"max_length", config.max_length},
                                                 {"vocab_size", config.vocab_size},
                                                 {"width", config.width},
                                                 {"layers", config.layers},
                                                 {"heads", config.heads},
                                                 {"ffn", config.ffn}}));
  WEFT_RETURN_IF_ERROR(
      CheckDivides(family, "patch_size", config.patch_size, "image_size", config.image_size));
  WEFT_RETURN_IF_ERROR(CheckDivides(family, "vision_heads", config.vision_heads, "vision_width",
                                    config.vision_width));
  WEFT_RETURN_IF_ERROR(CheckDivides(family, "heads", config.heads, "width", config.width));
  WEFT_RETURN_IF_ERROR(CheckDivides(family, "kv_heads", config.kv_heads, "heads", config.heads));
  if (recipe.select_layer() >= 0 || config.vision_blocks < 1) {
    return InvalidArgument("model.llava.select_layer: " + std::to_string(recipe.select_layer()) +
                           " is not from -" + std::to_string(config.vision_layers) + " to -1");
  }
  if (config.patches() >= config.max_length) {
    return InvalidArgument("model.llava.max_length: " + std::to_string(config.max_length) +
                           " tokens do not hold the " + std::to_string(config.patches()) +
                           " patches of an image and a word");
  }
  WEFT_RETURN_IF_ERROR(FillPictures(whole.data().conversation(), &config));
  return config;
}

ModelSpec MakeLlavaSpec(const LlavaConfig& config) {
  ModelSpec spec;
  spec.family = "llava";
  spec.encoder = "visual";
  std::vector<BlockSpec>& blocks = spec.blocks;
  blocks.push_back(MakeVisionEmbeddings(config));
  for (int64_t layer = 0; layer < config.vision_blocks; ++layer)
    blocks.push_back(MakeVisionLayer(config, layer, blocks.back().outputs[0].name));
  blocks.push_back(MakeProjector(config, blocks.back().outputs[0].name));
  blocks.push_back(MakeWordEmbeddings(config));
  for (int64_t layer = 0; layer < config.layers; ++layer)
    blocks.push_back(MakeLanguageLayer(config, layer, blocks.back().outputs[0].name));
  blocks.push_back(MakeLanguageHead(config, blocks.back().outputs[0].name));
  return spec;
}

}  // namespace weft
