// What tensor and sequence parallelism read from CLIP's spec; its counts, costs and init are tested with tensors.
#include "models/spec/clip_spec.h"

#include <gtest/gtest.h>

#include "models/spec/tp_slice.h"

namespace weft {
namespace {

ModelSpec TinyClip() {
  ClipModel clip;
  clip.set_image_size(32);
  clip.set_patch_size(8);
  clip.set_vision_width(64);
  clip.set_vision_layers(2);
  clip.set_vision_heads(8);
  clip.set_text_width(32);
  clip.set_text_layers(1);
  clip.set_text_heads(4);
  clip.set_vocab_size(515);
  clip.set_embed_dim(16);
  return MakeClipSpec(*ResolveClip(clip));
}

ParamSpec Find(const ModelSpec& spec, const std::string& name) {
  for (const ParamSpec& param : spec.Params())
    if (param.name == name) return param;
  ADD_FAILURE() << name;
  return {};
}

TEST(ClipSpecTest, HeadsAreTheUnitsOfAttention) {
  const ModelSpec spec = TinyClip();
  for (const auto& [prefix, heads] :
       {std::pair{"visual.transformer.resblocks.1.", 8}, {"transformer.resblocks.0.", 4}}) {
    for (const char* name : {"attn.in_proj_weight", "attn.in_proj_bias"}) {
      const ParamSpec qkv = Find(spec, std::string(prefix) + name);
      EXPECT_EQ(qkv.tp_dim, 0);
      EXPECT_EQ(qkv.tp_sections, 3);
      EXPECT_EQ(qkv.tp_units, heads);
    }
    const ParamSpec out = Find(spec, std::string(prefix) + "attn.out_proj.weight");
    EXPECT_EQ(out.tp_dim, 1);
    EXPECT_EQ(out.tp_units, heads);
    EXPECT_EQ(Find(spec, std::string(prefix) + "mlp.c_fc.bias").tp_dim, 0);
    EXPECT_EQ(Find(spec, std::string(prefix) + "mlp.c_proj.weight").tp_dim, 1);
    EXPECT_EQ(Find(spec, std::string(prefix) + "mlp.c_proj.bias").tp_dim, -1);
  }
}

// Of what is replicated over tp, a rank's gradient is a part where the layer sees its own rows only.
TEST(ClipSpecTest, SequencePartialAreTheReplicatedParametersOfTheTransformerBlocks) {
  for (const BlockSpec& block : TinyClip().blocks) {
    const bool transformer = block.name.find("resblocks") != std::string::npos;
    for (const ParamSpec& param : block.params)
      EXPECT_EQ(param.sequence_partial, transformer && param.tp_dim < 0) << param.name;
  }
}

TEST(ClipSpecTest, RowsAreSplitBetweenEmbedAndHead) {
  for (const BlockSpec& block : TinyClip().blocks) {
    for (const ActivationSpec& output : block.outputs)
      EXPECT_EQ(output.sequence, !block.name.ends_with(".head")) << output.name;
    for (const ActivationSpec& input : block.inputs) {
      const bool from_loader = input.name == "pixels" || input.name == "ids" || input.name == "eot";
      EXPECT_EQ(input.sequence, !from_loader) << input.name;
      EXPECT_EQ(input.differentiable, !from_loader) << input.name;
    }
  }
}

}  // namespace
}  // namespace weft
