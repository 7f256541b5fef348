#include "models/spec/clip_spec.h"

#include <cmath>
#include <tuple>
#include <utility>
#include <vector>

#include "models/spec/checks.h"
#include "models/spec/param_list.h"

namespace weft {
namespace {

// open_clip's rule, to the letter: by substring.
bool Decays(const ParamSpec& param) {
  if (param.shape.size() < 2) return false;
  for (const char* part : {"bn", "ln", "bias", "logit_scale"}) {
    if (param.name.find(part) != std::string::npos) return false;
  }
  return true;
}

// What differs between the towers' transformer blocks.
struct TransformerInit {
  Init in_proj;
  Init out_proj;
  Init c_fc;
  Init c_proj;
};

struct Tower {
  std::string name;
  std::string prefix;  // of block and parameter names: "visual.transformer.resblocks."
  int64_t tokens = 0;
  int64_t width = 0;
  int64_t heads = 0;
  int64_t layers = 0;
  TransformerInit init;
};

// What passes between the blocks of a tower; under sequence parallelism each rank has its own rows.
ActivationSpec Rows(const std::string& name, int64_t tokens, int64_t width) {
  return {.name = name, .dims = {tokens, width}, .differentiable = true, .sequence = true};
}

BlockSpec TransformerBlock(const Tower& tower, int64_t layer, const std::string& input) {
  const int64_t width = tower.width;
  const auto tokens = static_cast<double>(tower.tokens);
  BlockSpec block;
  block.name = tower.prefix + std::to_string(layer);
  block.tower = tower.name;
  const std::string prefix = block.name + ".";
  ParamList params(&block, Decays);
  params.LayerNorm(prefix + "ln_1", width, NormRows::kOwn);
  // The reference names the fused projection without a dot.
  for (auto [name, shape, init] :
       {std::tuple{"attn.in_proj_weight", std::vector{3 * width, width}, tower.init.in_proj},
        std::tuple{"attn.in_proj_bias", std::vector{3 * width}, Init::Constant(0)}}) {
    ParamSpec& param = params.Add(prefix + name, shape, init);
    param.tp_dim = 0;
    param.tp_sections = 3;
    param.tp_units = tower.heads;
  }
  params.Row(prefix + "attn.out_proj", width, width, tower.heads,
             {tower.init.out_proj, Init::Constant(0)});
  params.LayerNorm(prefix + "ln_2", width, NormRows::kOwn);
  params.Column(prefix + "mlp.c_fc", 4 * width, width, 0,
                {tower.init.c_fc, Init::FanInUniform(width)});
  params.Row(prefix + "mlp.c_proj", width, 4 * width, 0,
             {tower.init.c_proj, Init::FanInUniform(4 * width)});
  const auto w = static_cast<double>(width);
  block.forward_flops = 24 * tokens * w * w + 4 * tokens * tokens * w;
  block.inputs = {Rows(input, tower.tokens, width)};
  block.outputs = {Rows(block.name + ".out", tower.tokens, width)};
  return block;
}

// Appends the tower's transformer blocks and then `head`, which reads the last one's output.
void AppendTower(const Tower& tower, BlockSpec head, ModelSpec* spec) {
  for (int64_t layer = 0; layer < tower.layers; ++layer) {
    const std::string input = spec->blocks.back().outputs[0].name;
    spec->blocks.push_back(TransformerBlock(tower, layer, input));
  }
  head.inputs.insert(head.inputs.begin(), spec->blocks.back().outputs[0]);
  spec->blocks.push_back(std::move(head));
}

void AppendVision(const ClipConfig& config, ModelSpec* spec) {
  const int64_t width = config.vision_width;
  const int64_t fan_in = 3 * config.patch_size * config.patch_size;
  const Init scaled_normal = Init::Normal(1 / std::sqrt(static_cast<double>(width)));
  BlockSpec embed;
  embed.name = "visual.embed";
  embed.tower = "visual";
  ParamList params(&embed, Decays);
  params.Add("visual.class_embedding", {width}, scaled_normal);
  params.Add("visual.positional_embedding", {config.vision_tokens(), width}, scaled_normal);
  params.Add("visual.conv1.weight", {width, 3, config.patch_size, config.patch_size},
             Init::FanInUniform(fan_in));
  params.LayerNorm("visual.ln_pre", width, NormRows::kAll);
  embed.forward_flops = 2.0 * static_cast<double>(config.patches() * fan_in * width);
  embed.inputs = {{"pixels", {3, config.image_size, config.image_size}, false}};
  embed.outputs = {Rows("visual.embed.out", config.vision_tokens(), width)};
  spec->blocks.push_back(std::move(embed));

  BlockSpec head;
  head.name = "visual.head";
  head.tower = "visual";
  ParamList head_params(&head, Decays);
  head_params.LayerNorm("visual.ln_post", width, NormRows::kAll);
  head_params.Add("visual.proj", {width, config.embed_dim}, scaled_normal);
  head.forward_flops = 2.0 * static_cast<double>(width * config.embed_dim);
  head.outputs = {{.name = "image_features", .dims = {config.embed_dim}, .wide = true}};

  Tower tower{"visual",
              "visual.transformer.resblocks.",
              config.vision_tokens(),
              width,
              config.vision_heads,
              config.vision_layers,
              {}};
  tower.init = {Init::XavierUniform(width, 3 * width), Init::FanInUniform(width),
                Init::FanInUniform(width), Init::FanInUniform(4 * width)};
  AppendTower(tower, std::move(head), spec);
}

void AppendText(const ClipConfig& config, ModelSpec* spec) {
  const int64_t width = config.text_width;
  const auto w = static_cast<double>(width);
  BlockSpec embed;
  embed.name = "text.embed";
  embed.tower = "text";
  ParamList params(&embed, Decays);
  params.Add("token_embedding.weight", {config.vocab_size, width}, Init::Normal(0.02)).tp_dim = 0;
  params.Add("positional_embedding", {config.context_length, width}, Init::Normal(0.01));
  embed.inputs = {{"ids", {config.context_length}, false}};
  embed.outputs = {Rows("text.embed.out", config.context_length, width)};
  spec->blocks.push_back(std::move(embed));

  BlockSpec head;
  head.name = "text.head";
  head.tower = "text";
  ParamList head_params(&head, Decays);
  head_params.LayerNorm("ln_final", width, NormRows::kAll);
  head_params.Add("text_projection", {width, config.embed_dim}, Init::Normal(1 / std::sqrt(w)));
  head.forward_flops = 2.0 * static_cast<double>(width * config.embed_dim);
  head.inputs = {{"eot", {}, false}};
  head.outputs = {{.name = "text_features", .dims = {config.embed_dim}, .wide = true}};

  Tower tower{"text", "transformer.resblocks.", config.context_length,
              width,  config.text_heads,        config.text_layers,
              {}};
  const Init projection =
      Init::Normal(1 / std::sqrt(w * 2 * static_cast<double>(config.text_layers)));
  tower.init = {Init::Normal(1 / std::sqrt(w)), projection, Init::Normal(1 / std::sqrt(2 * w)),
                projection};
  AppendTower(tower, std::move(head), spec);
}

}  // namespace

StatusOr<ClipConfig> ResolveClip(const ClipModel& recipe) {
  ClipConfig config;
  config.embed_dim = recipe.embed_dim();
  config.image_size = recipe.image_size();
  config.patch_size = recipe.patch_size();
  config.vision_width = recipe.vision_width();
  config.vision_layers = recipe.vision_layers();
  config.vision_heads =
      recipe.has_vision_heads() ? recipe.vision_heads() : config.vision_width / 64;
  config.context_length = recipe.context_length();
  config.vocab_size = recipe.vocab_size();
  config.text_width = recipe.text_width();
  config.text_layers = recipe.text_layers();
  config.text_heads = recipe.has_text_heads() ? recipe.text_heads() : config.text_width / 64;
  config.logit_scale_init = recipe.logit_scale_init();
  config.logit_scale_max = recipe.logit_scale_max();
  config.dropout = recipe.dropout();
  config.attention_dropout = recipe.attention_dropout();

  const std::string family = "model.clip";
  WEFT_RETURN_IF_ERROR(CheckAllPositive(family, {{"embed_dim", config.embed_dim},
                                                 {"image_size", config.image_size},
                                                 {"patch_size", config.patch_size},
                                                 {"vision_width", config.vision_width},
                                                 {"vision_layers", config.vision_layers},
                                                 {"context_length", config.context_length},
                                                 {"vocab_size", config.vocab_size},
                                                 {"text_width", config.text_width},
                                                 {"text_layers", config.text_layers}}));
  WEFT_RETURN_IF_ERROR(CheckDivides(family, "vision_heads", config.vision_heads, "vision_width",
                                    config.vision_width));
  WEFT_RETURN_IF_ERROR(
      CheckDivides(family, "text_heads", config.text_heads, "text_width", config.text_width));
  WEFT_RETURN_IF_ERROR(
      CheckDivides(family, "patch_size", config.patch_size, "image_size", config.image_size));
  if (config.logit_scale_max <= 0) {
    return InvalidArgument("model.clip.logit_scale_max: must be positive");
  }
  if (config.logit_scale_init < 0 || config.logit_scale_init > config.logit_scale_max) {
    return InvalidArgument("model.clip.logit_scale_init: must lie in [0, logit_scale_max]");
  }
  return config;
}

ModelSpec MakeClipSpec(const ClipConfig& config) {
  ModelSpec spec;
  spec.family = "clip";
  spec.encoder = "visual";
  AppendVision(config, &spec);
  AppendText(config, &spec);

  JoinSpec join;
  join.name = "contrastive";
  join.inputs = {{"image_features", {config.embed_dim}}, {"text_features", {config.embed_dim}}};
  ParamSpec scale;
  scale.name = "logit_scale";
  scale.init = Init::Constant(config.logit_scale_init);
  scale.decay = false;
  scale.keep_fp32 = true;
  scale.owner = join.name;
  scale.clamp = ClampRange{0, config.logit_scale_max};
  join.params = {scale};
  spec.joins.push_back(std::move(join));
  return spec;
}

}  // namespace weft
