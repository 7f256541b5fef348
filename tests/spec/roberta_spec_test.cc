#include "models/spec/roberta_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "models/spec/tp_slice.h"

namespace weft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Recipe Roberta(int width, int layers, int heads) {
  Recipe recipe;
  RobertaModel* roberta = recipe.mutable_model()->mutable_roberta();
  roberta->set_width(width);
  roberta->set_layers(layers);
  roberta->set_heads(heads);
  return recipe;
}

std::map<std::string, ParamSpec> ByName(const ModelSpec& spec) {
  std::map<std::string, ParamSpec> params;
  for (const ParamSpec& param : spec.Params()) params[param.name] = param;
  return params;
}

TEST(RobertaSpecTest, ParameterCountsAreThePublishedOnes) {
  const ModelSpec base = *MakeModelSpec(Roberta(768, 12, 12));
  EXPECT_EQ(base.NumParameters(), 124'697'433);
  EXPECT_EQ(base.NumParameters("roberta."), 124'055'040);
  EXPECT_EQ(base.NumParameters("lm_head."), 642'393);
  EXPECT_EQ(MakeModelSpec(Roberta(1024, 24, 16))->NumParameters(), 355'412'057);
}

TEST(RobertaSpecTest, FlopsOfBase) {
  const ModelSpec spec = *MakeModelSpec(Roberta(768, 12, 12));
  double layers = 0;
  for (const BlockSpec& block : spec.blocks)
    layers += block.name == "lm_head" ? 0 : block.forward_flops;
  EXPECT_NEAR(layers, 87e9 + 9.7e9, 0.2e9);
  EXPECT_NEAR(spec.blocks.back().forward_flops, 5.9e9 + 0.09e9, 0.05e9);
}

TEST(RobertaSpecTest, EverythingDecays) {
  const ModelSpec spec = *MakeModelSpec(Roberta(16, 2, 4));
  for (const ParamSpec& param : spec.Params()) EXPECT_TRUE(param.decay) << param.name;
}

TEST(RobertaSpecTest, TheDecoderIsAReplicaOfTheWordEmbeddings) {
  ModelSpec spec = *MakeModelSpec(Roberta(16, 2, 4));
  const auto params = ByName(spec);
  const ParamSpec& words = params.at("roberta.embeddings.word_embeddings.weight");
  const ParamSpec& decoder = params.at("lm_head.decoder.weight");
  EXPECT_EQ(decoder.tie, words.name);
  EXPECT_EQ(decoder.shape, words.shape);
  EXPECT_EQ(decoder.tp_dim, words.tp_dim);
  EXPECT_EQ(decoder.owner, "lm_head");
  // It is trained if its owner is.
  ASSERT_TRUE(ApplyTrainable({"lm_head.*"}, &spec).ok());
  EXPECT_FALSE(ByName(spec).at("lm_head.decoder.weight").trainable);
  spec = *MakeModelSpec(Roberta(16, 2, 4));
  ASSERT_TRUE(ApplyTrainable({"roberta.embeddings.*"}, &spec).ok());
  EXPECT_TRUE(ByName(spec).at("lm_head.decoder.weight").trainable);
  EXPECT_FALSE(ByName(spec).at("lm_head.bias").trainable);
}

TEST(RobertaSpecTest, ReplicatedParametersOfLayersSeeOwnRows) {
  const ModelSpec spec = *MakeModelSpec(Roberta(16, 2, 4));
  for (const BlockSpec& block : spec.blocks) {
    const bool layer = block.name.find(".layer.") != std::string::npos;
    for (const ParamSpec& param : block.params)
      EXPECT_EQ(param.sequence_partial, layer && param.tp_dim < 0) << param.name;
  }
}

TEST(RobertaSpecTest, ParallelLayersAreSplitByHeadsAndElements) {
  const auto params = ByName(*MakeModelSpec(Roberta(16, 2, 4)));
  const std::string layer = "roberta.encoder.layer.1.";
  EXPECT_THAT(LocalShape(params.at(layer + "attention.self.key.weight"), 4, 3), ElementsAre(4, 16));
  EXPECT_THAT(LocalShape(params.at(layer + "attention.output.dense.weight"), 4, 3),
              ElementsAre(16, 4));
  EXPECT_THAT(LocalShape(params.at(layer + "intermediate.dense.bias"), 4, 3), ElementsAre(16));
  EXPECT_THAT(LocalShape(params.at(layer + "output.dense.bias"), 4, 3), ElementsAre(16));
  EXPECT_THAT(LocalShape(params.at("lm_head.bias"), 2, 0), ElementsAre(25133));
  EXPECT_THAT(LocalShape(params.at("lm_head.decoder.weight"), 2, 1), ElementsAre(25132, 16));
  EXPECT_FALSE(CheckTpSplit(params.at(layer + "attention.self.key.weight"), 3).ok());
}

TEST(RobertaSpecTest, OnlyHiddenStatesCrossTheBordersOfBlocks) {
  const ModelSpec spec = *MakeModelSpec(Roberta(16, 2, 4));
  std::vector<std::string> from_loader;
  for (size_t i = 0; i < spec.blocks.size(); ++i) {
    for (const ActivationSpec& input : spec.blocks[i].inputs) {
      if (!input.differentiable) {
        from_loader.push_back(input.name);
        continue;
      }
      EXPECT_EQ(input.name, spec.blocks[i - 1].outputs[0].name);
      EXPECT_TRUE(input.sequence);
    }
  }
  EXPECT_THAT(from_loader, ElementsAre("ids", "mask", "mask", "labels"));
  EXPECT_EQ(spec.blocks.back().outputs[0].name, "loss.mlm");
}

TEST(RobertaSpecTest, ErrorsNameTheField) {
  Recipe recipe = Roberta(16, 2, 3);
  EXPECT_THAT(MakeModelSpec(recipe).status().message(), HasSubstr("model.roberta.heads"));
  recipe = Roberta(16, 0, 4);
  EXPECT_THAT(MakeModelSpec(recipe).status().message(), HasSubstr("model.roberta.layers"));
  recipe = Roberta(16, 2, 4);
  recipe.mutable_model()->mutable_roberta()->set_position_rows(512);
  EXPECT_THAT(MakeModelSpec(recipe).status().message(), HasSubstr("model.roberta.position_rows"));
}

}  // namespace
}  // namespace weft
