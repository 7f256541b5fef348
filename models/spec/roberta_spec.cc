#include "models/spec/roberta_spec.h"

#include <string>
#include <utility>

#include "models/spec/checks.h"
#include "models/spec/param_list.h"

namespace weft {
namespace {

const LinearInit kLinear{Init::Normal(0.02), Init::Constant(0)};
constexpr const char* kWordEmbeddings = "roberta.embeddings.word_embeddings.weight";
// Of 512 positions, 77 are chosen: the head works on those.
constexpr double kChosen = 0.15;

bool DecaysAll(const ParamSpec& /*param*/) { return true; }

// What passes between the blocks; under sequence parallelism each rank has its own rows.
ActivationSpec Rows(const RobertaConfig& config, const std::string& name) {
  return {.name = name,
          .dims = {config.max_length, config.width},
          .differentiable = true,
          .sequence = true};
}

ActivationSpec FromLoader(const RobertaConfig& config, const std::string& name) {
  return {.name = name, .dims = {config.max_length}, .differentiable = false};
}

BlockSpec MakeEmbeddings(const RobertaConfig& config) {
  BlockSpec block;
  block.name = "roberta.embeddings";
  block.tower = "text";
  ParamList params(&block, DecaysAll);
  const Init normal = Init::Normal(0.02);
  ParamSpec& words = params.Add(kWordEmbeddings, {config.vocab_size, config.width}, normal);
  words.tp_dim = 0;
  words.padding_row = RobertaConfig::kPadId;
  params
      .Add("roberta.embeddings.position_embeddings.weight", {config.position_rows, config.width},
           normal)
      .padding_row = RobertaConfig::kPadId;
  params.Add("roberta.embeddings.token_type_embeddings.weight", {1, config.width}, normal);
  params.LayerNorm("roberta.embeddings.LayerNorm", config.width, NormRows::kAll);
  block.inputs = {FromLoader(config, "ids")};
  block.outputs = {Rows(config, block.name + ".out")};
  return block;
}

BlockSpec MakeLayer(const RobertaConfig& config, int64_t layer, const std::string& input) {
  const int64_t width = config.width;
  BlockSpec block;
  block.name = "roberta.encoder.layer." + std::to_string(layer);
  block.tower = "text";
  const std::string prefix = block.name + ".";
  ParamList params(&block, DecaysAll);
  for (const char* part : {"query", "key", "value"})
    params.Column(prefix + "attention.self." + part, width, width, config.heads, kLinear);
  params.Row(prefix + "attention.output.dense", width, width, config.heads, kLinear);
  params.LayerNorm(prefix + "attention.output.LayerNorm", width, NormRows::kOwn);
  params.Column(prefix + "intermediate.dense", config.ffn, width, 0, kLinear);
  params.Row(prefix + "output.dense", width, config.ffn, 0, kLinear);
  params.LayerNorm(prefix + "output.LayerNorm", width, NormRows::kOwn);
  const auto s = static_cast<double>(config.max_length);
  const auto w = static_cast<double>(width);
  block.forward_flops = s * w * (8 * w + 4 * static_cast<double>(config.ffn)) + 4 * s * s * w;
  block.inputs = {Rows(config, input), FromLoader(config, "mask")};
  block.outputs = {Rows(config, block.name + ".out")};
  return block;
}

BlockSpec MakeHead(const RobertaConfig& config, const std::string& input) {
  BlockSpec block;
  block.name = "lm_head";
  block.tower = "text";
  ParamList params(&block, DecaysAll);
  params.Linear("lm_head.dense", config.width, config.width, kLinear);
  params.LayerNorm("lm_head.layer_norm", config.width, NormRows::kAll);
  ParamSpec& decoder =
      params.Add("lm_head.decoder.weight", {config.vocab_size, config.width}, Init::Normal(0.02));
  decoder.tp_dim = 0;
  decoder.tie = kWordEmbeddings;
  params.Add("lm_head.bias", {config.vocab_size}, Init::Constant(0)).tp_dim = 0;
  block.forward_flops =
      2 * kChosen *
      static_cast<double>(config.max_length * config.width * (config.width + config.vocab_size));
  block.inputs = {Rows(config, input), FromLoader(config, "labels")};
  block.outputs = {{.name = "loss.mlm", .dims = {}, .wide = true}};
  return block;
}

}  // namespace

StatusOr<RobertaConfig> ResolveRoberta(const RobertaModel& recipe) {
  RobertaConfig config;
  config.max_length = recipe.max_length();
  config.vocab_size = recipe.vocab_size();
  config.width = recipe.width();
  config.layers = recipe.layers();
  config.heads = recipe.heads();
  config.ffn = recipe.has_ffn() ? recipe.ffn() : 4 * config.width;
  config.position_rows =
      recipe.has_position_rows() ? recipe.position_rows() : config.max_length + 2;
  config.dropout = recipe.dropout();
  config.attention_dropout = recipe.attention_dropout();
  const std::string family = "model.roberta";
  WEFT_RETURN_IF_ERROR(CheckAllPositive(family, {{"max_length", config.max_length},
                                                 {"vocab_size", config.vocab_size},
                                                 {"width", config.width},
                                                 {"layers", config.layers},
                                                 {"heads", config.heads},
                                                 {"ffn", config.ffn}}));
  WEFT_RETURN_IF_ERROR(CheckDivides(family, "heads", config.heads, "width", config.width));
  if (config.position_rows < config.max_length + 2) {
    return InvalidArgument(
        "model.roberta.position_rows: " + std::to_string(config.position_rows) +
        " rows are too few for max_length + 2 = " + std::to_string(config.max_length + 2));
  }
  return config;
}

ModelSpec MakeRobertaSpec(const RobertaConfig& config) {
  ModelSpec spec;
  spec.family = "roberta";
  spec.blocks.push_back(MakeEmbeddings(config));
  for (int64_t layer = 0; layer < config.layers; ++layer)
    spec.blocks.push_back(MakeLayer(config, layer, spec.blocks.back().outputs[0].name));
  spec.blocks.push_back(MakeHead(config, spec.blocks.back().outputs[0].name));
  return spec;
}

}  // namespace weft
