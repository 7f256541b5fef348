// What a run saves on a device and on the CPU is the same, so either goes on from the other's; and evaluation and init_from
// find their way.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "cluster/base/logging.h"
#include "models/spec/model_spec.h"
#include "tests/parity/parity_models.h"
#include "tests/support/golden.h"
#include "worker/bench/synthetic_batch.h"
#include "worker/rank_state.h"
#include "worker/train_step.h"

namespace weft::testing {
namespace {

// Bytes of each tensor of the state, whole, as one rank has them.
using Saved = std::map<std::string, std::vector<char>>;

Recipe SmallRecipe() {
  Recipe recipe = ParityRecipe("roberta");
  recipe.mutable_batch()->set_slots(2);
  recipe.mutable_optimizer()->set_clip_norm(0);
  return recipe;
}

std::unique_ptr<RankState> MakeRank(const Recipe& recipe, const ComputeDevice& device) {
  AxisCommunicators axes;
  axes.device = device;
  auto rank = RankState::Create(recipe, *MakeModelSpec(recipe), axes);
  WEFT_CHECK_OK(rank.status());
  (*rank)->parameters().FillAll(GoldenFill);
  WEFT_CHECK_OK((*rank)->parameters().Publish());
  return *std::move(rank);
}

double Step(RankState* rank, int64_t step) {
  const auto batches = SyntheticBatches(rank->recipe(), rank->parallel().slots(), step);
  const auto result = TrainStepOn(rank, step, batches);
  WEFT_CHECK_OK(result.status());
  return result->loss;
}

Saved Save(RankState* rank) {
  Saved saved;
  for (const StateSlice& slice : rank->optimizer().ExportState()) {
    const auto* bytes = static_cast<const char*>(slice.data);
    std::vector<char>& whole = saved[slice.name];
    EXPECT_TRUE(whole.empty()) << slice.name;
    whole.assign(bytes, bytes + slice.bytes);
  }
  return saved;
}

void Load(const Saved& saved, int64_t steps, RankState* rank) {
  WEFT_CHECK_OK(rank->optimizer().ImportState(
      steps, [&](const std::string& name, int64_t begin, int64_t end, void* out) {
        constexpr size_t kElement = sizeof(double);
        std::memcpy(out, saved.at(name).data() + static_cast<size_t>(begin) * kElement,
                    static_cast<size_t>(end - begin) * kElement);
        return OkStatus();
      }));
}

ComputeDevice OpenDevice() {
  const auto device = ComputeDevice::Open(6);
  WEFT_CHECK_OK(device.status());
  return *device;
}

TEST(DeviceResume, SavesTheBytesOfTheCpu) {
  const auto host = MakeRank(SmallRecipe(), {});
  const auto device = MakeRank(SmallRecipe(), OpenDevice());
  EXPECT_EQ(Step(device.get(), 0), Step(host.get(), 0));
  EXPECT_TRUE(Save(device.get()) == Save(host.get()));
  // The copies that a save makes are made anew by the next.
  EXPECT_EQ(Step(device.get(), 1), Step(host.get(), 1));
  EXPECT_TRUE(Save(device.get()) == Save(host.get()));
}

TEST(DeviceResume, GoesOnFromTheCpuAndBack) {
  const auto host = MakeRank(SmallRecipe(), {});
  const double first = Step(host.get(), 0);
  const Saved saved = Save(host.get());
  const double second = Step(host.get(), 1);

  const auto device = MakeRank(SmallRecipe(), OpenDevice());
  Load(saved, 1, device.get());
  EXPECT_EQ(Step(device.get(), 1), second);
  const auto again = MakeRank(SmallRecipe(), {});
  Load(Save(device.get()), 2, again.get());
  EXPECT_EQ(Step(again.get(), 2), Step(host.get(), 2));
  EXPECT_NE(first, second);
}

// A read of some tensors only leaves the others as they are: init_from.
TEST(DeviceResume, KeepsWhatIsNotRead) {
  const auto device = MakeRank(SmallRecipe(), OpenDevice());
  const Saved before = Save(device.get());
  const std::string name = "param/lm_head.dense.bias";
  ASSERT_EQ(before.count(name), 1U);
  WEFT_CHECK_OK(device->optimizer().ImportState(
      0, [&](const std::string& tensor, int64_t begin, int64_t end, void* out) {
        auto* values = static_cast<double*>(out);
        if (tensor == name) std::fill(values, values + (end - begin), 3.0);
        return OkStatus();
      }));
  EXPECT_TRUE(
      device->parameters().Get("lm_head.dense.bias")->value.detach().eq(3).all().item<bool>());
  Saved after = Save(device.get());
  EXPECT_FALSE(after.at(name) == before.at(name));
  after[name] = before.at(name);
  EXPECT_TRUE(after == before);
}

}  // namespace
}  // namespace weft::testing
