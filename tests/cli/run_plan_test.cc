#include "cli/run_plan.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

namespace weft {
namespace {

std::string Describe(const std::string& text) {
  Recipe recipe;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &recipe)) << text;
  ModelSpec spec = *MakeModelSpec(recipe);
  EXPECT_TRUE(ApplyTrainable({recipe.trainable().begin(), recipe.trainable().end()}, &spec).ok());
  return DescribeRun(recipe, spec);
}

constexpr char kRoberta[] =
    "model { roberta { width: 64 layers: 4 heads: 4 ffn: 128 max_length: 48 vocab_size: 1024 } } "
    "batch { slots: 4 micro_batches: 2 micro_batch_size: 4 } ";

TEST(RunPlan, StagesOfAPipeline) {
  EXPECT_EQ(Describe(std::string(kRoberta) + "layout { dp: 3 tp: 2 pp: 2 schedule: ZB_H1 }"),
            "  roberta, 208,128 parameters, on 12 ranks: dp 3 x tp 2 x pp 2, ZeRO 1, ZB_H1\n"
            "  samples a step: 32 (slots x micro-batches x samples: 4 x 2 x 4); slots of a "
            "data-parallel rank: 1 or 2\n"
            "  stage 0 (pipeline rank 0):  46.9 % of the cost, 70,016 parameters a rank; 3 blocks, "
            "roberta.embeddings to roberta.encoder.layer.1\n"
            "  stage 1 (pipeline rank 1):  53.1 % of the cost, 71,424 parameters a rank; 3 blocks, "
            "roberta.encoder.layer.2 to lm_head\n"
            "  a rank holds at most 71,424 parameters, 71,424 of them trained\n");
}

// One rank holds everything, and the replica of the word embeddings too.
TEST(RunPlan, OneRank) {
  EXPECT_EQ(Describe(std::string(kRoberta) + "trainable: \"lm_head.*\""),
            "  roberta, 208,128 parameters, on 1 rank: dp 1, ZeRO 1\n"
            "  samples a step: 32 (slots x micro-batches x samples: 4 x 2 x 4); slots of a "
            "data-parallel rank: 4\n"
            "  stage 0: 100.0 % of the cost, 273,664 parameters a rank; 6 blocks, "
            "roberta.embeddings to lm_head\n"
            "  a rank holds at most 273,664 parameters, 5,312 of them trained\n");
}

TEST(RunPlan, StagesOfARankAddUp) {
  const std::string text =
      Describe(std::string(kRoberta) +
               "layout { pp: 2 virtual_stages: 2 schedule: INTERLEAVED_1F1B placement: EVEN }");
  EXPECT_NE(text.find("  stage 2 (pipeline rank 0):  "), std::string::npos) << text;
  // Stages 0 and 2: embeddings, layers 0 and 3; stage 1 and 3: layers 1 and 2, head.
  EXPECT_NE(text.find("a rank holds at most 137,792 parameters"), std::string::npos) << text;
}

}  // namespace
}  // namespace weft
