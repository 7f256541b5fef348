// Layouts against one process where nothing divides anything: few slots and micro-batches, single samples, frozen parts.
#include <ATen/ATen.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "cluster/base/mutex.h"
#include "tests/support/golden.h"
#include "tests/worker/rank_threads.h"
#include "worker/bench/synthetic_batch.h"
#include "worker/train_step.h"

namespace weft::testing {
namespace {

struct Result {
  std::vector<double> losses;
  std::vector<double> norms;
  // Whole tensors, as checkpoints name them.
  std::map<std::string, at::Tensor> state;
};

void Place(const StateSlice& slice, std::map<std::string, at::Tensor>* state) {
  at::Tensor& whole = (*state)[slice.name];
  if (!whole.defined()) whole = at::zeros(slice.global_shape, at::kDouble);
  at::Tensor box = whole;
  for (size_t d = 0; d < slice.box.lengths.size(); ++d)
    box = box.narrow(static_cast<int64_t>(d), slice.box.offsets[d], slice.box.lengths[d]);
  at::Tensor flat = box.reshape({-1}).clone();
  const int64_t count = slice.flat_end - slice.flat_begin;
  flat.narrow(0, slice.flat_begin, count).copy_(at::from_blob(slice.data, {count}, at::kDouble));
  box.copy_(flat.view(box.sizes()));
}

Result Train(Recipe recipe, const std::string& layout) {
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(layout, recipe.mutable_layout()));
  Result result;
  Mutex mutex;
  OnAllRanks(recipe, [&](int rank, RankState* state) -> Status {
    state->parameters().FillAll(GoldenFill);
    WEFT_RETURN_IF_ERROR(state->parameters().Publish());
    for (int64_t step = 0; step < 2; ++step) {
      const auto batches = SyntheticBatches(recipe, state->parallel().slots(), step);
      WEFT_ASSIGN_OR_RETURN(const StepResult done, TrainStepOn(state, step, batches));
      const MutexLock lock(mutex);
      if (rank == 0) result.losses.push_back(done.loss);
      if (rank == 0) result.norms.push_back(done.grad_norm);
    }
    const MutexLock lock(mutex);
    for (const StateSlice& slice : state->optimizer().ExportState()) Place(slice, &result.state);
    return OkStatus();
  });
  return result;
}

void ExpectSame(const Result& got, const Result& want, bool bits) {
  ASSERT_EQ(got.losses.size(), want.losses.size());
  const double tolerance = bits ? 0 : 1e-9;
  for (size_t i = 0; i < got.losses.size(); ++i) {
    EXPECT_NEAR(got.losses[i], want.losses[i], tolerance) << "loss of step " << i;
    EXPECT_NEAR(got.norms[i], want.norms[i], tolerance) << "norm of step " << i;
  }
  ASSERT_EQ(got.state.size(), want.state.size());
  for (const auto& [name, tensor] : want.state) {
    EXPECT_LE((got.state.at(name) - tensor).abs().max().item<double>(), tolerance) << name;
  }
}

Recipe MakeRecipe(const std::string& model, const std::string& batch) {
  Recipe recipe;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "precision: FP64 seed: 5 steps: 2 deterministic: true optimizer { lr: 1e-3 eps: 1e-6 "
      "clip_norm: 1 } model { " +
          model + " } batch { " + batch + " }",
      &recipe));
  return recipe;
}

void Compare(const Recipe& recipe, const std::vector<std::string>& layouts) {
  const Result one = Train(recipe, "");
  for (const std::string& layout : layouts) {
    SCOPED_TRACE(layout);
    ExpectSame(Train(recipe, layout), one, layout.find("tp:") == std::string::npos);
  }
}

// Three slots of one sample: more tp ranks than samples, dp ranks without a slot in the last round.
TEST(OddBatchesTest, ClipWithoutDropout) {
  const Recipe recipe = MakeRecipe(
      "clip { embed_dim: 8 image_size: 8 patch_size: 4 vision_width: 16 vision_layers: 2 "
      "vision_heads: 4 context_length: 6 vocab_size: 31 text_width: 16 text_layers: 2 "
      "text_heads: 4 }",
      "slots: 3 micro_batches: 1 micro_batch_size: 1");
  Compare(recipe, {"tp: 2 encoder: ENCODER_DEAL", "tp: 4 sequence_parallel: true",
                   "dp: 2 pp: 2 zero_stage: 3", "dp: 3 pp: 2 schedule: ZB_H1 zero_stage: 2",
                   "pp: 4 schedule: INTERLEAVED_1F1B virtual_stages: 2",
                   "schedule: INTERLEAVED_1F1B virtual_stages: 3"});
}

TEST(OddBatchesTest, ClipWithAFrozenTower) {
  Recipe recipe = MakeRecipe(
      "clip { embed_dim: 8 image_size: 8 patch_size: 4 vision_width: 16 vision_layers: 2 "
      "vision_heads: 4 context_length: 6 vocab_size: 31 text_width: 16 text_layers: 2 "
      "text_heads: 4 dropout: 0.1 }",
      "slots: 3 micro_batches: 2 micro_batch_size: 1 keep_wave: FEATURES");
  recipe.add_trainable("logit_scale");
  recipe.add_trainable("visual.*");
  const std::vector<std::string> layouts = {
      "dp: 2 pp: 3 zero_stage: 3 recompute: RECOMPUTE_FULL",
      "pp: 2 zero_stage: 3 gather: GATHER_MICRO_BATCH schedule: ZB_H1",
      "dp: 3 zero_stage: 3 recompute: RECOMPUTE_SELECTIVE", "tp: 2 dp: 2 zero_stage: 2"};
  Compare(recipe, layouts);
  recipe.clear_trainable();
  recipe.add_trainable("transformer.*");
  Compare(recipe, layouts);
  recipe.clear_trainable();
  recipe.add_trainable("logit_scale");
  Compare(recipe, layouts);
}

TEST(OddBatchesTest, RobertaWithTheTieFrozenAndTrained) {
  Recipe recipe = MakeRecipe(
      "roberta { max_length: 7 vocab_size: 37 width: 16 layers: 3 heads: 4 dropout: 0.1 }",
      "slots: 5 micro_batches: 3 micro_batch_size: 1");
  const std::vector<std::string> layouts = {
      "dp: 2 pp: 2 zero_stage: 3",
      "dp: 4 zero_stage: 2",
      "pp: 2 dp: 3 schedule: ZB_H1",
      "pp: 2 virtual_stages: 2 schedule: INTERLEAVED_1F1B dp: 2 zero_stage: 2",
      "tp: 4 sequence_parallel: true dp: 2",
      "dp: 4 shard_ranks: 2 zero_stage: 3"};
  Compare(recipe, layouts);
  recipe.add_trainable("roberta.encoder.*");
  Compare(recipe, layouts);
}

// LLaVA's first stage: tower and language model are frozen, gradients pass through the latter.
TEST(OddBatchesTest, LlavaTrainsItsProjectorOnly) {
  Recipe recipe = MakeRecipe(
      "llava { image_size: 8 patch_size: 4 vision_width: 16 vision_layers: 3 vision_heads: 4 "
      "max_length: 12 vocab_size: 31 width: 16 layers: 3 heads: 4 kv_heads: 2 ffn: 24 "
      "dropout: 0.1 }",
      "slots: 3 micro_batches: 2 micro_batch_size: 1");
  recipe.add_trainable("multi_modal_projector.*");
  Compare(recipe, {"dp: 2 pp: 3 zero_stage: 3", "pp: 2 schedule: ZB_H1 zero_stage: 3",
                   "dp: 3 zero_stage: 3 recompute: RECOMPUTE_FULL",
                   "tp: 4 encoder: ENCODER_DEAL sequence_parallel: true", "tp: 2 pp: 3 dp: 2"});
}

}  // namespace
}  // namespace weft::testing
