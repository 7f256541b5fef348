// Every family: a run that is stopped at any step and goes on with any number of ranks, slots dealt in any way, gives each
// slot the ids and bytes of a run that was never stopped.
#include <gtest/gtest.h>

#include <map>

#include "cluster/base/hash.h"
#include "dataloader/bpe_trainer.h"
#include "dataloader/loader.h"
#include "tests/dataloader/test_images.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

// By (step, slot, micro-batch): a CRC of sample ids, label counts and fields.
using Digest = std::map<std::tuple<int64_t, int, int>, uint32_t>;

void Read(const LoaderOptions& options, int64_t first_step, int64_t end_step,
          const std::vector<int>& slots, Digest* digest) {
  LoaderOptions own = options;
  own.first_step = first_step;
  own.end_step = end_step;
  own.slots = slots;
  auto loader = Loader::Open(own);
  ASSERT_TRUE(loader.ok()) << loader.status();
  const int64_t count =
      (end_step - first_step) * static_cast<int64_t>(slots.size()) * own.batch.micro_batches();
  for (int64_t i = 0; i < count; ++i) {
    auto batch = (*loader)->Next();
    ASSERT_TRUE(batch.ok()) << batch.status();
    uint32_t crc = Crc32c(batch->sample_ids.data(), batch->sample_ids.size() * 8);
    crc = Crc32c(batch->targets.data(), batch->targets.size() * 4, crc);
    for (const Field& field : batch->fields)
      crc = Crc32c(field.bytes.data(), field.bytes.size(), crc);
    EXPECT_TRUE(
        digest->emplace(std::tuple{batch->step, batch->slot, batch->micro_batch}, crc).second);
    (*loader)->Recycle(std::move(*batch));
  }
}

// Slots of a rank: neighbours, or dealt out in rounds.
std::vector<int> SlotsOf(int rank, int ranks, int slots, bool interleaved) {
  std::vector<int> own;
  for (int slot = 0; slot < slots; ++slot) {
    if ((interleaved ? slot % ranks : slot * ranks / slots) == rank) own.push_back(slot);
  }
  return own;
}

class ResumeTest : public ::testing::TestWithParam<SampleFamily> {
 protected:
  static constexpr int kSlots = 8;
  static constexpr int64_t kSteps = 7;

  void SetUp() override {
    options_.family = GetParam();
    options_.seed = 3;
    options_.batch.set_slots(kSlots);
    options_.batch.set_micro_batches(2);
    options_.batch.set_micro_batch_size(2);
    options_.image_size = 12;
    options_.patches = 4;
    options_.context_length = 40;
    options_.data.set_vocabulary(Path("vocab.txt"));
    options_.data.add_train_shards(Path("train.tar"));
    options_.data.mutable_conversation()->set_version(ConversationRecipe::V1);
    options_.data.mutable_conversation()->set_system("");
    const BpeStyle style = GetParam() == SampleFamily::kMaskedText     ? BpeStyle::kRoberta
                           : GetParam() == SampleFamily::kConversation ? BpeStyle::kLlava
                                                                       : BpeStyle::kClip;
    const auto vocabulary = BpeTrainer(style).Train(BpeFixedEntries(style));
    ASSERT_TRUE(vocabulary.ok());
    WriteBytes(Path("vocab.txt"), *vocabulary);
    // About two epochs in kSteps steps of 32 samples; two samples are bad.
    auto samples = MakeSamples(0, 100, 20);
    for (auto& [key, members] : samples) {
      members["json"] = R"({"conversations": [{"from": "human", "value": "<image>\nIt?"},)"
                        R"({"from": "gpt", "value": ")" +
                        members["txt"].substr(8) + "\"}]}";
      if (GetParam() == SampleFamily::kMaskedText) members["txt"] += " and more of it\nso it is";
    }
    if (GetParam() != SampleFamily::kMaskedText) {
      samples[11].second["jpg"] = "no picture";
      samples[50].second["jpg"].resize(200);
    }
    WriteShard(Path("train.tar"), samples);
  }

  std::string Path(const std::string& name) const { return dir_.path() + "/" + name; }

  testing::TempDir dir_;
  LoaderOptions options_;
};

TEST_P(ResumeTest, StoppedAnywhereOnAnyRanksGivesTheSameBytes) {
  Digest straight;
  Read(options_, 0, kSteps, SlotsOf(0, 1, kSlots, false), &straight);
  ASSERT_EQ(straight.size(), size_t{kSteps * kSlots * 2});
  int64_t different = 0;
  for (const auto& [key, crc] : straight) different += crc != straight.begin()->second;
  EXPECT_GT(different, static_cast<int64_t>(straight.size()) - 3);
  const std::vector<int> worlds = {1, 2, 3, 4, 8};
  for (int64_t stop = 0; stop <= kSteps; ++stop) {
    // The ranks before and after the stop: each pair of numbers comes up at some step.
    for (size_t w = 0; w < worlds.size(); ++w) {
      const int before = worlds[w];
      const int after = worlds[(w + static_cast<size_t>(stop)) % worlds.size()];
      const bool interleaved = (stop + static_cast<int64_t>(w)) % 2 == 0;
      Digest digest;
      for (int rank = 0; rank < before; ++rank)
        Read(options_, 0, stop, SlotsOf(rank, before, kSlots, interleaved), &digest);
      for (int rank = 0; rank < after; ++rank)
        Read(options_, stop, kSteps, SlotsOf(rank, after, kSlots, !interleaved), &digest);
      EXPECT_EQ(digest, straight) << "stopped at " << stop << ", " << before << " ranks, then "
                                  << after;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, ResumeTest,
                         ::testing::Values(SampleFamily::kImageText, SampleFamily::kMaskedText,
                                           SampleFamily::kConversation));

}  // namespace
}  // namespace weft
