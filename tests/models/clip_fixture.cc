#include "tests/models/clip_fixture.h"

#include <ATen/ATen.h>

#include "cluster/base/logging.h"
#include "cluster/base/philox.h"
#include "parallel/engine/dtypes.h"
#include "tests/support/golden.h"

namespace weft::testing {
namespace {

ModelSpec SpecOf(const Recipe& recipe) {
  StatusOr<ModelSpec> spec = MakeModelSpec(recipe);
  WEFT_CHECK_OK(spec.status());
  const std::vector<std::string> patterns(recipe.trainable().begin(), recipe.trainable().end());
  WEFT_CHECK_OK(ApplyTrainable(patterns, &*spec));
  return *spec;
}

std::unique_ptr<RankState> StateOf(const Recipe& recipe, const ModelSpec& spec, Communicator* dp) {
  AxisCommunicators axes;
  axes.dp = dp;
  StatusOr<std::unique_ptr<RankState>> state = RankState::Create(recipe, spec, axes);
  WEFT_CHECK_OK(state.status());
  return std::move(state).value();
}

}  // namespace

Recipe GoldenRecipe(int slots, int micro_batches) {
  Recipe recipe;
  ClipModel* clip = recipe.mutable_model()->mutable_clip();
  clip->set_embed_dim(24);
  clip->set_image_size(32);
  clip->set_patch_size(8);
  clip->set_vision_width(64);
  clip->set_vision_layers(2);
  clip->set_context_length(12);
  clip->set_vocab_size(99);
  clip->set_text_width(64);
  clip->set_text_layers(2);
  clip->set_text_heads(2);
  recipe.set_precision(FP64);
  recipe.mutable_batch()->set_slots(slots);
  recipe.mutable_batch()->set_micro_batches(micro_batches);
  recipe.mutable_batch()->set_micro_batch_size(4 / (slots * micro_batches));
  recipe.mutable_optimizer()->set_lr(1e-3);
  return recipe;
}

ClipRank::ClipRank(const Recipe& r, Communicator* dp)
    : recipe(r),
      spec(SpecOf(recipe)),
      state(StateOf(recipe, spec, dp)),
      context(state->parallel()),
      store(state->parameters()),
      reducer(state->gradients()),
      engine(state->engine()),
      optimizer(state->optimizer()) {}

std::vector<NamedTensors> ClipRank::GoldenBatches() const {
  const std::vector<double> pixels = GoldenInput("image", 4 * 3 * 32 * 32);
  const at::Tensor images = at::tensor(pixels, at::kDouble).view({4, 3, 32, 32});
  const at::Tensor ids =
      at::tensor({97, 5, 6, 98, 0,  0,  0, 0, 0, 0, 0, 0, 97, 33, 98, 0,  0, 0, 0, 0, 0, 0, 0, 0,
                  97, 8, 9, 10, 11, 98, 0, 0, 0, 0, 0, 0, 97, 5,  7,  98, 0, 0, 0, 0, 0, 0, 0, 0},
                 at::kInt)
          .view({4, 12});
  const at::Tensor eot = at::tensor({3, 2, 5, 3}, at::kInt);
  const BatchRecipe& batch = recipe.batch();
  const int64_t b = batch.micro_batch_size();
  std::vector<NamedTensors> batches;
  for (int64_t i = context.slots().front() * batch.micro_batches();
       i < (context.slots().back() + 1) * batch.micro_batches(); ++i) {
    batches.push_back({{"pixels", images.narrow(0, i * b, b)},
                       {"ids", ids.narrow(0, i * b, b)},
                       {"eot", eot.narrow(0, i * b, b)}});
  }
  return batches;
}

std::vector<NamedTensors> ClipRank::RandomBatches(int64_t step) const {
  const BatchRecipe& batch = recipe.batch();
  const ClipModel& clip = recipe.model().clip();
  const int64_t b = batch.micro_batch_size();
  const int64_t size = clip.image_size();
  const int64_t context_length = clip.context_length();
  const KeyedRandom random(7, "test", static_cast<uint64_t>(step));
  std::vector<NamedTensors> batches;
  for (int64_t i = context.slots().front() * batch.micro_batches();
       i < (context.slots().back() + 1) * batch.micro_batches(); ++i) {
    at::Tensor pixels = at::empty({b, 3, size, size}, at::kByte);
    at::Tensor ids = at::zeros({b, context_length}, at::kInt);
    at::Tensor eot = at::empty({b}, at::kInt);
    for (int64_t row = 0; row < b; ++row) {
      const auto key = static_cast<uint64_t>(i * b + row);
      auto* out = pixels[row].data_ptr<uint8_t>();
      for (int64_t k = 0; k < 3 * size * size; ++k)
        out[k] = random.Below(256, key, static_cast<uint64_t>(k));
      const int64_t length = 3 + static_cast<int64_t>(random.Below(
                                     static_cast<uint64_t>(context_length - 3), key, 1 << 20));
      for (int64_t k = 0; k < length; ++k) {
        ids[row][k] = static_cast<int64_t>(random.Below(static_cast<uint64_t>(clip.vocab_size()),
                                                        key, static_cast<uint64_t>((1 << 21) + k)));
      }
      eot[row] = length - 1;
    }
    batches.push_back({{"pixels", pixels}, {"ids", ids}, {"eot", eot}});
  }
  return batches;
}

StepOutput ClipRank::Gradients(int64_t step, const std::vector<NamedTensors>& batches) {
  StatusOr<StepOutput> output = engine.RunStep(step, batches);
  WEFT_CHECK_OK(output.status());
  WEFT_CHECK_OK(reducer.Finish());
  StatusOr<double> n = GradientNorm(store, reducer, &context, step);
  WEFT_CHECK_OK(n.status());
  norm = *n;
  return *output;
}

StepOutput ClipRank::TrainStep(int64_t step, const std::vector<NamedTensors>& batches, double lr) {
  const StepOutput output = Gradients(step, batches);
  ClipGradients(store, reducer, norm, recipe.optimizer().clip_norm());
  WEFT_CHECK_OK(optimizer.Step(lr, reducer));
  return output;
}

at::Tensor ClipRank::Gradient(const std::string& name) {
  const Parameter* parameter = store.Get(name);
  const auto g = static_cast<size_t>(parameter->group);
  const at::Tensor& shard = reducer.shard(g);
  at::Tensor whole = shard;
  if (context.dp_size() > 1) {
    whole = at::empty({shard.numel() * context.dp_size()}, shard.options());
    WEFT_CHECK_OK(context.Wait(context.dp().AllGather(
        shard.data_ptr(), whole.data_ptr(), static_cast<size_t>(shard.numel()),
        ToDType(shard.scalar_type()), context.Op("test.gather"))));
  }
  return whole.narrow(0, parameter->offset, parameter->spec.NumElements())
      .view(parameter->spec.shape)
      .to(at::kDouble);
}

std::string ClipRank::ValueBytes() const {
  std::string bytes;
  for (const auto& parameter : store.parameters()) {
    bytes.append(static_cast<const char*>(parameter->value.data_ptr()), parameter->value.nbytes());
  }
  return bytes;
}

}  // namespace weft::testing
