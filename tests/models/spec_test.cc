#include "models/spec/model_spec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "models/spec/clip_spec.h"
#include "parallel/engine/parameter_store.h"

namespace weft {
namespace {

Recipe Clip(int image, int patch, int width, int layers, int text_width, int text_layers,
            int embed) {
  Recipe recipe;
  ClipModel* clip = recipe.mutable_model()->mutable_clip();
  clip->set_image_size(image);
  clip->set_patch_size(patch);
  clip->set_vision_width(width);
  clip->set_vision_layers(layers);
  clip->set_text_width(text_width);
  clip->set_text_layers(text_layers);
  clip->set_embed_dim(embed);
  return recipe;
}

Recipe B32() { return Clip(224, 32, 768, 12, 512, 12, 512); }

TEST(ClipSpecTest, ParameterCountsAreThePublishedOnes) {
  const ModelSpec b32 = *MakeModelSpec(B32());
  EXPECT_EQ(b32.NumParameters(), 151277313);
  EXPECT_EQ(b32.NumParameters("visual."), 87849216);
  EXPECT_EQ(MakeModelSpec(Clip(224, 16, 768, 12, 512, 12, 512))->NumParameters(), 149620737);
  EXPECT_EQ(MakeModelSpec(Clip(224, 14, 1024, 24, 768, 12, 768))->NumParameters(), 427616513);
  EXPECT_EQ(MakeModelSpec(Clip(336, 14, 1024, 24, 768, 12, 768))->NumParameters(), 427944193);
}

TEST(ClipSpecTest, FlopsOfB32) {
  const ModelSpec spec = *MakeModelSpec(B32());
  double vision = 0;
  for (const BlockSpec& block : spec.blocks)
    vision += block.tower == "visual" ? block.forward_flops : 0;
  EXPECT_NEAR(vision, 8.8e9, 0.05e9);
  EXPECT_NEAR(spec.ForwardFlopsPerSample() - vision, 6.0e9, 0.05e9);
}

TEST(ClipSpecTest, DecayFollowsTheLegacyRule) {
  std::map<std::string, bool> decay;
  for (const ParamSpec& param : MakeModelSpec(B32())->Params()) decay[param.name] = param.decay;
  for (const char* name :
       {"visual.conv1.weight", "visual.proj", "text_projection", "token_embedding.weight",
        "positional_embedding", "visual.positional_embedding",
        "transformer.resblocks.3.mlp.c_fc.weight"}) {
    EXPECT_TRUE(decay.at(name)) << name;
  }
  for (const char* name : {"logit_scale", "visual.class_embedding", "ln_final.weight",
                           "visual.ln_pre.bias", "transformer.resblocks.3.mlp.c_fc.bias",
                           "visual.transformer.resblocks.0.attn.in_proj_bias"}) {
    EXPECT_FALSE(decay.at(name)) << name;
  }
}

TEST(ClipSpecTest, InitHasThePublishedDeviations) {
  const std::map<std::string, double> expected = {
      {"visual.transformer.resblocks.0.attn.in_proj_weight", 0.0255},
      {"visual.transformer.resblocks.0.attn.out_proj.weight", 0.0208},
      {"visual.transformer.resblocks.0.mlp.c_fc.weight", 0.0208},
      {"visual.transformer.resblocks.0.mlp.c_proj.weight", 0.0104},
      {"visual.conv1.weight", 0.0104},
      {"visual.proj", 0.0361},
      {"visual.positional_embedding", 0.0361},
      {"text_projection", 1 / std::sqrt(512.0)},
      {"positional_embedding", 0.01},
      {"transformer.resblocks.0.attn.in_proj_weight", 1 / std::sqrt(512.0)},
      {"transformer.resblocks.0.attn.out_proj.weight", 1 / std::sqrt(512.0 * 24)},
      {"transformer.resblocks.0.mlp.c_fc.weight", 1 / std::sqrt(1024.0)},
  };
  for (const ParamSpec& param : MakeModelSpec(B32())->Params()) {
    const auto it = expected.find(param.name);
    if (it == expected.end()) continue;
    const int64_t n = std::min<int64_t>(param.NumElements(), 200000);
    std::vector<double> values(static_cast<size_t>(n));
    InitValues(param, 1, 0, n, values.data());
    double sum = 0;
    double squares = 0;
    for (const double value : values) {
      sum += value;
      squares += value * value;
    }
    const double mean = sum / static_cast<double>(n);
    const double std = std::sqrt(squares / static_cast<double>(n) - mean * mean);
    EXPECT_NEAR(std / it->second, 1, 0.02) << param.name;
    EXPECT_LT(std::abs(mean), 0.02 * it->second) << param.name;
  }
}

TEST(ClipSpecTest, ErrorsNameTheField) {
  Recipe recipe = B32();
  recipe.mutable_model()->mutable_clip()->set_patch_size(33);
  EXPECT_NE(MakeModelSpec(recipe).status().message().find("model.clip.patch_size"),
            std::string::npos);
  recipe = B32();
  recipe.mutable_model()->mutable_clip()->set_text_heads(7);
  EXPECT_NE(MakeModelSpec(recipe).status().message().find("model.clip.text_heads"),
            std::string::npos);
  recipe.mutable_model()->mutable_clip()->clear_embed_dim();
  EXPECT_NE(MakeModelSpec(recipe).status().message().find("model.clip.embed_dim"),
            std::string::npos);
  EXPECT_FALSE(MakeModelSpec(Recipe()).ok());
}

TEST(ModelSpecTest, TrainablePatternsFreezeTheRest) {
  ModelSpec spec = *MakeModelSpec(B32());
  ASSERT_TRUE(ApplyTrainable({"visual.*"}, &spec).ok());
  for (const ParamSpec& param : spec.Params())
    EXPECT_EQ(param.trainable, param.name.starts_with("visual."));
  EXPECT_NE(ApplyTrainable({"visual.prj"}, &spec).message().find("visual.proj"), std::string::npos);
}

}  // namespace
}  // namespace weft
