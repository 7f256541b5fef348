// CLIP on tensor-parallel ranks against one rank, in fp64 with dropout: with and without sequence parallelism, and with the
// image encoder dealt over the ranks, where some of them have no image.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>

#include "cluster/base/logging.h"
#include "tests/models/clip_fixture.h"
#include "tests/support/golden.h"
#include "tests/support/thread_world.h"
#include "worker/train_step.h"

namespace weft::testing {
namespace {

constexpr int kSteps = 2;

Recipe TensorRecipe() {
  Recipe recipe = GoldenRecipe(1, 2);
  ClipModel* clip = recipe.mutable_model()->mutable_clip();
  clip->set_vision_heads(8);
  clip->set_text_heads(8);
  clip->set_vision_layers(1);
  clip->set_text_layers(1);
  clip->set_dropout(0.1);
  clip->set_attention_dropout(0.1);
  recipe.set_steps(kSteps);
  return recipe;
}

struct Run {
  std::vector<double> losses;
  std::vector<double> norms;
};

Run Train(RankState* rank, const std::vector<std::vector<NamedTensors>>& batches) {
  rank->parameters().FillAll(GoldenFill);
  Run run;
  for (int step = 0; step < kSteps; ++step) {
    StatusOr<StepResult> result = TrainStepOn(rank, step, batches[static_cast<size_t>(step)]);
    WEFT_CHECK_OK(result.status());
    run.losses.push_back(result->loss);
    run.norms.push_back(result->grad_norm);
  }
  return run;
}

// The rank's part of a whole tensor.
at::Tensor SliceOf(const Parameter& parameter, const at::Tensor& whole) {
  if (parameter.spec.tp_dim < 0) return whole;
  std::vector<at::Tensor> parts;
  const auto dim = static_cast<size_t>(parameter.spec.tp_dim);
  for (const TensorBox& box : parameter.boxes)
    parts.push_back(whole.narrow(parameter.spec.tp_dim, box.offsets[dim], box.lengths[dim]));
  return at::cat(parts, parameter.spec.tp_dim);
}

void CheckLayout(int ranks, bool sequence, EncoderLayout encoder) {
  ClipRank alone(TensorRecipe(), nullptr);
  std::vector<std::vector<NamedTensors>> batches;
  for (int step = 0; step < kSteps; ++step) batches.push_back(alone.RandomBatches(step));
  const Run expected = Train(alone.state.get(), batches);
  const Status status = ThreadWorld(ranks, [&](Communicator& tp) -> Status {
    Recipe recipe = TensorRecipe();
    recipe.mutable_layout()->set_tp(ranks);
    recipe.mutable_layout()->set_sequence_parallel(sequence);
    recipe.mutable_layout()->set_encoder(encoder);
    AxisCommunicators axes;
    axes.tp = &tp;
    WEFT_ASSIGN_OR_RETURN(ModelSpec spec, MakeModelSpec(recipe));
    WEFT_ASSIGN_OR_RETURN(const auto rank, RankState::Create(recipe, std::move(spec), axes));
    const Run got = Train(rank.get(), batches);
    for (size_t step = 0; step < kSteps; ++step) {
      EXPECT_NEAR(got.losses[step], expected.losses[step], 1e-12) << step;
      EXPECT_NEAR(got.norms[step], expected.norms[step], 1e-11) << step;
    }
    for (const auto& parameter : rank->parameters().parameters()) {
      const std::string& name = parameter->spec.name;
      const at::Tensor whole = alone.store.Get(name)->value.detach();
      EXPECT_LT((parameter->value.detach() - SliceOf(*parameter, whole)).abs().max().item<double>(),
                1e-11)
          << name;
    }
    return OkStatus();
  });
  ASSERT_TRUE(status.ok()) << status;
}

TEST(ClipTensorTest, HeadsAndRowsAreSplit) {
  CheckLayout(2, /*sequence=*/false, ENCODER_FOLLOW);
  CheckLayout(4, /*sequence=*/true, ENCODER_FOLLOW);
}

TEST(ClipTensorTest, TheImageEncoderIsDealt) {
  CheckLayout(2, /*sequence=*/true, ENCODER_DEAL);
  CheckLayout(4, /*sequence=*/false,
              ENCODER_DEAL);  // two images a micro-batch: two ranks have none
}

}  // namespace
}  // namespace weft::testing
