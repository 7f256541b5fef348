#include "models/spec/layout_rules.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

namespace weft {
namespace {

// 8 heads a tower; 12 blocks in CLIP, 7 in RoBERTa, and 2 kv heads in LLaVA.
constexpr char kClip[] =
    "clip { embed_dim: 32 image_size: 32 patch_size: 8 vision_width: 64 vision_layers: 4 "
    "vision_heads: 8 "
    "context_length: 12 vocab_size: 515 text_width: 64 text_layers: 4 text_heads: 8 }";
constexpr char kRoberta[] =
    "roberta { width: 64 layers: 5 heads: 8 vocab_size: 515 max_length: 16 }";
constexpr char kLlava[] =
    "llava { image_size: 32 patch_size: 16 vision_width: 48 vision_layers: 3 vision_heads: 6 "
    "max_length: 16 vocab_size: 515 width: 64 layers: 4 heads: 8 kv_heads: 2 ffn: 96 }";

// "" if the layout fits.
std::string Why(const std::string& model, const std::string& layout, int slots = 8) {
  Recipe recipe;
  const std::string text = "model { " + model + " } batch { slots: " + std::to_string(slots) +
                           " } layout { " + layout + " }";
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &recipe)) << text;
  const StatusOr<ModelSpec> spec = MakeModelSpec(recipe);
  EXPECT_TRUE(spec.ok()) << spec.status();
  const Status status = CheckLayoutFits(recipe, *spec);
  EXPECT_TRUE(status.ok() || status.code() == StatusCode::kInvalidArgument);
  return status.message();
}

TEST(LayoutRules, TakesWhatFits) {
  for (const char* layout :
       {"", "dp: 8", "tp: 8", "dp: 2 tp: 2 pp: 2", "pp: 7",
        "tp: 2 sequence_parallel: true zero_stage: 3", "pp: 3 schedule: ZB_H1",
        "pp: 3 schedule: INTERLEAVED_1F1B virtual_stages: 2", "pp: 2 schedule: INTERLEAVED_1F1B",
        "pp: 2 zero_stage: 3 gather: GATHER_MICRO_BATCH",
        "recompute: RECOMPUTE_FULL recompute_blocks: \"*.1\" placement: EVEN"}) {
    EXPECT_EQ(Why(kRoberta, layout), "") << layout;
  }
  EXPECT_EQ(Why(kClip, "tp: 2 encoder: ENCODER_DEAL"), "");
  EXPECT_EQ(Why(kClip, "pp: 12"), "");
}

TEST(LayoutRules, HeadsAreNotDivisible) {
  EXPECT_EQ(
      Why(kClip, "dp: 2 tp: 3"),
      "layout.tp = 3: 8 heads of visual.transformer.resblocks.0.attn.in_proj_weight cannot be "
      "split over 3 ranks; with 6 ranks dp 3 x tp 2, dp 2 x pp 3 and dp 3 x pp 2 work");
  EXPECT_EQ(
      Why(kClip, "tp: 16"),
      "layout.tp = 16: 8 heads of visual.transformer.resblocks.0.attn.in_proj_weight cannot "
      "be split over 16 ranks; with 16 ranks dp 2 x tp 8, tp 8 x pp 2 and dp 2 x tp 4 x pp 2 work");
  // 13 ranks: no triple of a prime fits, so with one less.
  EXPECT_EQ(
      Why(kRoberta, "tp: 13"),
      "layout.tp = 13: 8 heads of roberta.encoder.layer.0.attention.self.query.weight cannot "
      "be split over 13 ranks; with 12 ranks dp 3 x tp 4, tp 4 x pp 3 and dp 2 x tp 2 x pp 3 work");
}

TEST(LayoutRules, KeyAndValueHeadsAreRepeatedButNotTorn) {
  const std::string deal = " encoder: ENCODER_DEAL";
  EXPECT_EQ(Why(kLlava, "tp: 4" + deal), "") << "2 kv heads on 4 ranks: each on 2";
  EXPECT_EQ(Why(kLlava, "tp: 8" + deal), "");
  EXPECT_EQ(Why(kLlava, "tp: 4"),
            "layout.tp = 4: 6 heads of "
            "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight cannot be split "
            "over 4 ranks; with 4 ranks dp 2 x tp 2, tp 2 x pp 2 and dp 2 "
            "x pp 2 work");
}

TEST(LayoutRules, MoreRanksThanSlots) {
  EXPECT_EQ(Why(kRoberta, "dp: 6", 4),
            "layout.dp = 6: a step has only batch.slots = 4 slots, and each data-parallel rank "
            "needs one; with 6 ranks dp 3 x pp 2, dp 3 x tp 2 and dp 2 x pp 3 work");
}

TEST(LayoutRules, TooFewBlocks) {
  EXPECT_EQ(Why(kRoberta, "pp: 8"),
            "layout.pp = 8: the 7 blocks of roberta cannot be cut into 8 stages; with 8 ranks dp 2 "
            "x pp 4, tp 2 x pp 4 and dp 2 x tp 2 x pp 2 work");
  EXPECT_EQ(Why(kRoberta, "pp: 4 virtual_stages: 2 schedule: INTERLEAVED_1F1B"),
            "layout.pp = 4 with virtual_stages = 2: the 7 blocks of roberta cannot be cut into 8 "
            "stages; with 4 ranks pp 4 with virtual_stages 1, dp 2 x pp 2 and tp 2 x pp 2 work");
}

TEST(LayoutRules, SequenceParallelismNeedsRanks) {
  EXPECT_EQ(Why(kRoberta, "dp: 4 sequence_parallel: true"),
            "layout.sequence_parallel = true: needs layout.tp > 1, ranks to split the rows over; "
            "with 4 ranks dp 2 x tp 2, dp 4 without sequence_parallel and dp 2 x pp 2 without "
            "sequence_parallel work");
}

TEST(LayoutRules, ModesSayWhatToWriteInstead) {
  EXPECT_EQ(Why(kRoberta, "pp: 2 virtual_stages: 2"),
            "layout.virtual_stages = 2: ONE_F_ONE_B has one stage a rank; use virtual_stages: 1 or "
            "schedule: INTERLEAVED_1F1B");
  EXPECT_EQ(Why(kRoberta, "pp: 2 zero_stage: 2 gather: GATHER_MICRO_BATCH"),
            "layout.gather = GATHER_MICRO_BATCH: nothing is gathered with zero_stage 2; use "
            "zero_stage: 3 or gather: GATHER_STEP");
  EXPECT_EQ(Why(kRoberta, "encoder: ENCODER_DEAL"),
            "layout.encoder = ENCODER_DEAL: roberta has no image encoder whose images could be "
            "dealt; use encoder: ENCODER_FOLLOW");
  EXPECT_EQ(Why(kRoberta, "recompute: RECOMPUTE_FULL recompute_blocks: \"lm_hed\""),
            "layout.recompute_blocks = \"lm_hed\": no block's name matches; the nearest is "
            "\"lm_head\"");
  EXPECT_EQ(Why(kRoberta, "recompute_blocks: \"lm_head\""),
            "layout.recompute_blocks = \"lm_head\": nothing is recomputed with RECOMPUTE_OFF; use "
            "recompute: RECOMPUTE_FULL or RECOMPUTE_SELECTIVE");
}

TEST(LayoutRules, EveryBrokenRuleHasALine) {
  EXPECT_EQ(
      Why(kRoberta, "dp: 3 tp: 3 virtual_stages: 2", 2),
      "layout.dp = 3: a step has only batch.slots = 2 slots, and each data-parallel rank "
      "needs one\n"
      "layout.tp = 3: 8 heads of roberta.encoder.layer.0.attention.self.query.weight cannot be "
      "split over 3 ranks; with 8 ranks dp 2 x tp 4, dp 2 x tp 2 x pp 2 and tp 4 x pp 2 "
      "work\n"
      "layout.virtual_stages = 2: ONE_F_ONE_B has one stage a rank; use virtual_stages: 1 or "
      "schedule: INTERLEAVED_1F1B");
}

// What is named works, whatever was asked for.
TEST(LayoutRules, OneRankAlwaysWorks) {
  EXPECT_EQ(Why(kRoberta, "pp: 1"), "");
  EXPECT_THAT(Why(kRoberta, "dp: 11 tp: 11 pp: 11", 1), ::testing::HasSubstr(" work"));
}

}  // namespace
}  // namespace weft
