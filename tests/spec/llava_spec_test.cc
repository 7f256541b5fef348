#include "models/spec/llava_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "models/spec/tp_slice.h"

namespace weft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

LlavaModel Llava(int width, int layers, int heads, int kv_heads, int ffn, int vocab = 32000) {
  LlavaModel recipe;
  recipe.set_width(width);
  recipe.set_layers(layers);
  recipe.set_heads(heads);
  recipe.set_kv_heads(kv_heads);
  recipe.set_ffn(ffn);
  recipe.set_vocab_size(vocab);
  return recipe;
}

LlavaModel Llava7B() { return Llava(4096, 32, 32, 32, 11008); }

LlavaModel Tiny() {
  LlavaModel recipe = Llava(32, 2, 4, 2, 64, 50);
  recipe.set_image_size(28);
  recipe.set_vision_width(24);
  recipe.set_vision_layers(3);
  recipe.set_vision_heads(4);
  recipe.set_vision_ffn(48);
  recipe.set_max_length(10);
  return recipe;
}

StatusOr<LlavaConfig> Resolve(const LlavaModel& model,
                              const ConversationRecipe& conversation = {}) {
  Recipe recipe;
  *recipe.mutable_model()->mutable_llava() = model;
  *recipe.mutable_data()->mutable_conversation() = conversation;
  return ResolveLlava(recipe);
}

ModelSpec Spec(const LlavaModel& recipe) { return MakeLlavaSpec(*Resolve(recipe)); }

ConversationRecipe Packed(int pictures) {
  ConversationRecipe conversation;
  conversation.set_pack(true);
  conversation.set_pack_pictures(pictures);
  return conversation;
}

std::map<std::string, ParamSpec> ByName(const ModelSpec& spec) {
  std::map<std::string, ParamSpec> params;
  for (const ParamSpec& param : spec.Params()) params[param.name] = param;
  return params;
}

TEST(LlavaSpecTest, ParameterCountsOfTheLanguageModels) {
  struct Model {
    LlavaModel recipe;
    int64_t parameters;
  };
  for (const Model& model : {Model{Llava7B(), 6'738'415'616},
                             {Llava(5120, 40, 40, 40, 13824), 13'015'864'320},
                             {Llava(8192, 80, 64, 8, 28672), 68'976'648'192},
                             {Llava(4096, 32, 32, 8, 14336, 128256), 8'030'261'248},
                             {Llava(4096, 32, 32, 8, 14336), 7'241'732'096}}) {
    EXPECT_EQ(Spec(model.recipe).NumParameters("language_model."), model.parameters);
  }
}

TEST(LlavaSpecTest, ParameterCountsOfTheProjectors) {
  LlavaModel recipe = Llava7B();
  EXPECT_EQ(Spec(recipe).NumParameters("multi_modal_projector."), 20'979'712);
  EXPECT_EQ(Spec(Llava(5120, 40, 40, 40, 13824)).NumParameters("multi_modal_projector."),
            31'467'520);
  recipe.set_projector(PROJECTOR_LINEAR);
  EXPECT_EQ(Spec(recipe).NumParameters("multi_modal_projector."), 4'198'400);
}

// The published counts are of the whole tower, with the layer and the norm that nobody uses.
TEST(LlavaSpecTest, ParameterCountsOfTheVisionTower) {
  LlavaModel recipe = Llava7B();
  constexpr int64_t kUnused = 12'596'224 + 2 * 1024;
  EXPECT_EQ(Spec(recipe).NumParameters("vision_tower."), 303'507'456 - kUnused);
  recipe.set_image_size(224);
  EXPECT_EQ(Spec(recipe).NumParameters("vision_tower."), 303'179'776 - kUnused);
  recipe.set_select_layer(-1);
  EXPECT_EQ(Spec(recipe).NumParameters("vision_tower."), 303'179'776 - 2 * 1024);
}

TEST(LlavaSpecTest, FlopsOf7B) {
  LlavaModel recipe = Llava7B();
  recipe.set_max_length(650);
  double vision = 0;
  double language = 0;
  for (const BlockSpec& block : Spec(recipe).blocks) {
    vision += block.tower == "visual" ? block.forward_flops : 0;
    language += block.tower == "language" ? block.forward_flops : 0;
  }
  EXPECT_NEAR(vision, 0.35e12, 0.04e12);
  EXPECT_NEAR(language, 8.8e12, 0.4e12);
}

TEST(LlavaSpecTest, NamesAndShapesOfTheReference) {
  const auto params = ByName(Spec(Tiny()));
  const auto shape = [&](const std::string& name) { return params.at(name).shape; };
  EXPECT_THAT(shape("language_model.lm_head.weight"), ElementsAre(50, 32));
  EXPECT_THAT(shape("language_model.model.embed_tokens.weight"), ElementsAre(50, 32));
  EXPECT_THAT(shape("language_model.model.layers.1.self_attn.k_proj.weight"), ElementsAre(16, 32));
  EXPECT_THAT(shape("language_model.model.layers.1.mlp.down_proj.weight"), ElementsAre(32, 64));
  EXPECT_THAT(shape("language_model.model.norm.weight"), ElementsAre(32));
  EXPECT_THAT(shape("multi_modal_projector.linear_1.weight"), ElementsAre(32, 24));
  EXPECT_THAT(shape("multi_modal_projector.linear_2.bias"), ElementsAre(32));
  const std::string vision = "vision_tower.vision_model.";
  EXPECT_THAT(shape(vision + "embeddings.class_embedding"), ElementsAre(24));
  EXPECT_THAT(shape(vision + "embeddings.patch_embedding.weight"), ElementsAre(24, 3, 14, 14));
  EXPECT_THAT(shape(vision + "embeddings.position_embedding.weight"), ElementsAre(5, 24));
  EXPECT_THAT(shape(vision + "pre_layrnorm.bias"), ElementsAre(24));
  EXPECT_THAT(shape(vision + "encoder.layers.1.self_attn.out_proj.bias"), ElementsAre(24));
  EXPECT_THAT(shape(vision + "encoder.layers.1.mlp.fc1.weight"), ElementsAre(48, 24));
  EXPECT_EQ(params.count(vision + "encoder.layers.2.mlp.fc1.weight"), 0) << "behind layer -2";
  // 7 + 2 * 16 of the tower, 4 of the projector, 3 + 2 * 9 of the language model; one norm weight and bias each.
  EXPECT_EQ(params.size(), 5U + 2 * 16 + 4 + 3 + 2 * 9);
}

TEST(LlavaSpecTest, OnlyMatricesAndTheClassTokenDecay) {
  for (const ParamSpec& param : Spec(Tiny()).Params()) {
    EXPECT_EQ(param.decay, param.shape.size() > 1 || param.name.ends_with("class_embedding"))
        << param.name;
  }
}

TEST(LlavaSpecTest, KeyAndValueHeadsAreRepeatedOverMoreRanks) {
  const auto params = ByName(Spec(Tiny()));
  const std::string attention = "language_model.model.layers.0.self_attn.";
  EXPECT_EQ(TpReplicas(params.at(attention + "k_proj.weight"), 4), 2);
  EXPECT_EQ(TpReplicas(params.at(attention + "q_proj.weight"), 4), 1);
  EXPECT_THAT(LocalShape(params.at(attention + "v_proj.weight"), 4, 3), ElementsAre(8, 32));
  EXPECT_THAT(LocalShape(params.at(attention + "o_proj.weight"), 4, 3), ElementsAre(32, 8));
}

TEST(LlavaSpecTest, RowsAreSplitInsideTheTowers) {
  for (const BlockSpec& block : Spec(Tiny()).blocks) {
    const bool layer = block.name.find(".layers.") != std::string::npos;
    for (const ParamSpec& param : block.params)
      EXPECT_EQ(param.sequence_partial, layer && param.tp_dim < 0) << param.name;
    for (const ActivationSpec& output : block.outputs)
      EXPECT_EQ(output.sequence, output.name.ends_with(".out")) << output.name;
  }
}

TEST(LlavaSpecTest, ImageTokensReachTheWordEmbeddings) {
  const ModelSpec spec = Spec(Tiny());
  std::map<std::string, ActivationSpec> made;
  std::vector<std::string> from_loader;
  for (const BlockSpec& block : spec.blocks) {
    for (const ActivationSpec& input : block.inputs) {
      if (!input.differentiable) {
        from_loader.push_back(input.name);
        continue;
      }
      ASSERT_EQ(made.count(input.name), 1) << input.name;
      EXPECT_EQ(made[input.name].dims, input.dims) << input.name;
      EXPECT_EQ(made[input.name].sequence, input.sequence) << input.name;
      if (input.name == "image_tokens") {
        EXPECT_EQ(block.name, "language_model.model.embed_tokens");
        EXPECT_THAT(input.dims, ElementsAre(4, 32));
      }
    }
    for (const ActivationSpec& output : block.outputs) made[output.name] = output;
  }
  EXPECT_THAT(from_loader, ElementsAre("pixels", "ids", "image_at", "mask", "mask", "labels"));
  EXPECT_EQ(made.count("loss.lm"), 1);
}

TEST(LlavaSpecTest, PackedRowsHoldAsManyPicturesAsFit) {
  LlavaModel recipe = Llava7B();
  recipe.set_max_length(2048);
  EXPECT_EQ(Resolve(recipe)->pictures, 0);
  EXPECT_EQ(Resolve(recipe, Packed(0))->pictures, 3) << "of 576 patches";
  EXPECT_EQ(Resolve(recipe, Packed(2))->pictures, 2);
  EXPECT_THAT(Resolve(recipe, Packed(4)).status().message(),
              HasSubstr("data.conversation.pack_pictures: 4"));
  recipe.set_max_length(577);
  EXPECT_EQ(Resolve(recipe, Packed(0))->pictures, 1);
}

TEST(LlavaSpecTest, BlocksOfPicturesHaveAnEntryAPicture) {
  LlavaModel recipe = Tiny();
  recipe.set_max_length(18);
  const ModelSpec one = Spec(recipe);
  const ModelSpec packed = MakeLlavaSpec(*Resolve(recipe, Packed(3)));
  ASSERT_EQ(packed.blocks.size(), one.blocks.size());
  for (size_t b = 0; b < packed.blocks.size(); ++b) {
    const BlockSpec& block = packed.blocks[b];
    const bool pictures = block.tower != "language";
    EXPECT_EQ(block.per_sample, pictures ? 3 : 1) << block.name;
    if (pictures) {
      EXPECT_EQ(block.forward_flops, 3 * one.blocks[b].forward_flops) << block.name;
    }
    for (const ActivationSpec& output : block.outputs)
      EXPECT_EQ(output.per_sample, pictures ? 3 : 1) << output.name;
    for (const ActivationSpec& input : block.inputs) {
      EXPECT_EQ(input.per_sample, pictures || input.name == "image_tokens" ? 3 : 1) << input.name;
      EXPECT_NE(input.name, "mask");
      if (input.name == "image_at") {
        EXPECT_THAT(input.dims, ElementsAre(3));
      }
      if (input.name == "segment_at") {
        EXPECT_THAT(input.dims, ElementsAre(18));
      }
    }
  }
  // 18 queries see 6 keys instead of 18.
  const size_t layer = packed.blocks.size() - 2;
  EXPECT_EQ(one.blocks[layer].forward_flops - packed.blocks[layer].forward_flops,
            4.0 * 18 * 12 * 32);
}

TEST(LlavaSpecTest, ErrorsNameTheField) {
  const auto error = [](void (*change)(LlavaModel*)) {
    LlavaModel recipe = Tiny();
    change(&recipe);
    return Resolve(recipe).status().message();
  };
  EXPECT_THAT(error([](LlavaModel* m) { m->set_kv_heads(3); }), HasSubstr("model.llava.kv_heads"));
  EXPECT_THAT(error([](LlavaModel* m) { m->set_select_layer(-4); }),
              HasSubstr("model.llava.select_layer"));
  EXPECT_THAT(error([](LlavaModel* m) { m->set_select_layer(0); }),
              HasSubstr("model.llava.select_layer"));
  EXPECT_THAT(error([](LlavaModel* m) { m->set_max_length(4); }),
              HasSubstr("model.llava.max_length"));
  EXPECT_THAT(error([](LlavaModel* m) { m->clear_ffn(); }), HasSubstr("model.llava.ffn"));
}

}  // namespace
}  // namespace weft
