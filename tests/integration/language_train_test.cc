// Tiny RoBERTa and LLaVA as a person trains them: losses of one process under pipelines and tensor parallelism, after a
// kill, from stage 1 to stage 2, and with packed rows.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/integration/tiny_run.h"

namespace weft::testing {
namespace {

constexpr char kCommon[] = R"(
steps: 8
batch { slots: 2 micro_batches: 2 micro_batch_size: 2 }
run { checkpoint_every: 3 }
)";

constexpr char kRoberta[] = R"(
name: "roberta"
model { roberta { max_length: 24 vocab_size: 280 width: 32 layers: 2 heads: 4 ffn: 64 } }
data { train_shards: "sentences.txt" vocabulary: "roberta.vocab" }
optimizer { lr: 5e-3 eps_hat: true weight_decay: 0.01 }
schedule { warmup_steps: 2 decay: LINEAR }
)";

constexpr char kLlava[] = R"(
model { llava { image_size: 32 patch_size: 16 vision_width: 32 vision_layers: 2 vision_heads: 4
                max_length: 24 vocab_size: 280 width: 32 layers: 2 heads: 4 kv_heads: 2 ffn: 64 } }
data { train_shards: "train-{000000..000001}.tar" vocabulary: "llava.vocab" }
optimizer { lr: 1e-2 beta2: 0.999 eps: 1e-8 weight_decay: 0 }
trainable: "multi_modal_projector.*"
)";

class LanguageTrain : public ::testing::Test {
 protected:
  void SetUp() override {
    Write("roberta.textproto", std::string(kRoberta) + kCommon);
    const std::string llava = std::string(kLlava) + kCommon;
    Write("stage1.textproto", llava + "name: \"stage1\"");
    Write("stage2.textproto", llava + "name: \"stage2\" trainable: \"language_model.*\"");
    std::string sentences;
    for (int i = 0; i < 200; ++i) {
      sentences += "the " + std::to_string(i % 7) + " small boats sail past " +
                   std::to_string(i % 5) + " islands\n";
      if (i % 3 == 2) sentences += "\n";
    }
    Write("sentences.txt", sentences);
    MakeVocabulary("roberta", "sentences.txt");
    MakeVocabulary("llava", "train-000000.tar");
  }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(tiny_.Path(name)) << text;
  }
  void MakeVocabulary(const std::string& style, const std::string& from) {
    const ProgramResult made = tiny_.Weft({"data", "vocab", "--style", style, "--size", "280",
                                           "--captions-from", from, "--out", style + ".vocab"});
    ASSERT_EQ(made.exit_code, 0) << made.output;
  }

  void Train(const std::string& recipe, const std::string& run, std::vector<std::string> settings,
             const std::vector<std::string>& more = {}) {
    std::vector<std::string> args = {"train", recipe + ".textproto", "--run-dir", run};
    for (const std::string& setting : settings) args.insert(args.end(), {"--set", setting});
    args.insert(args.end(), more.begin(), more.end());
    const ProgramResult result = tiny_.Weft(args);
    ASSERT_EQ(result.exit_code, 0) << result.output;
  }

  std::vector<double> Losses(const std::string& run) const {
    std::map<int64_t, double> losses;
    std::ifstream file(tiny_.Path(run + "/steps.jsonl"));
    for (std::string line; std::getline(file, line);) {
      const auto json = nlohmann::json::parse(line, nullptr, false);
      if (json.is_object()) losses[json.at("step")] = json.at("loss");
    }
    std::vector<double> list;
    for (const auto& [step, loss] : losses) list.push_back(loss);
    return list;
  }

  // One process; dp 2 x pp 2, killed in the middle: its bits; tp 2 x dp 2: within fp32's rounding.
  void ExpectLayoutsAgree(const std::string& recipe, std::vector<std::string> settings) {
    const auto with = [&](std::initializer_list<std::string> layout) {
      std::vector<std::string> all = settings;
      all.insert(all.end(), layout);
      return all;
    };
    ASSERT_NO_FATAL_FAILURE(Train(recipe, recipe + "-one", with({})));
    ASSERT_NO_FATAL_FAILURE(Train(recipe, recipe + "-pipeline",
                                  with({"layout.dp=2", "layout.pp=2"}),
                                  {"--inject", "kill:rank=2,step=5"}));
    ASSERT_NO_FATAL_FAILURE(
        Train(recipe, recipe + "-tensor", with({"layout.dp=2", "layout.tp=2"})));
    const std::vector<double> one = Losses(recipe + "-one");
    ASSERT_EQ(one.size(), 8U);
    EXPECT_LT(one.back(), one.front());
    EXPECT_EQ(tiny_.LossBits(recipe + "-pipeline"), tiny_.LossBits(recipe + "-one"));
    const std::vector<double> tensor = Losses(recipe + "-tensor");
    ASSERT_EQ(tensor.size(), 8U);
    for (size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(tensor[i], one[i], 1e-4) << "step " << i;
  }

  TinyRun tiny_;
};

TEST_F(LanguageTrain, RobertaUnderPipelinesAndTensorParallelism) {
  ExpectLayoutsAgree("roberta", {});
}

TEST_F(LanguageTrain, LlavaInTwoStagesUnderPipelinesAndTensorParallelism) {
  ASSERT_NO_FATAL_FAILURE(ExpectLayoutsAgree("stage1", {}));
  // Steps 3, 6 and 8 were saved.
  const std::string start = "init_from[0].checkpoint=stage1-one/ckpt/MANIFEST-000008.E1.G1.A3";
  ASSERT_NO_FATAL_FAILURE(ExpectLayoutsAgree("stage2", {start}));
  EXPECT_LT(Losses("stage2-one").back(), Losses("stage1-one").back());
}

// Several conversations a row, with up to three pictures.
TEST_F(LanguageTrain, PackedLlavaUnderPipelinesAndTensorParallelism) {
  ASSERT_NO_FATAL_FAILURE(
      ExpectLayoutsAgree("stage2", {"model.llava.max_length=72", "data.conversation.pack=true",
                                    "data.conversation.pack_pictures=3"}));
  // The same conversations in rows of their own are other samples.
  ASSERT_NO_FATAL_FAILURE(Train("stage2", "plain", {"model.llava.max_length=72"}));
  EXPECT_NE(tiny_.LossBits("plain"), tiny_.LossBits("stage2-one"));
}

}  // namespace
}  // namespace weft::testing
