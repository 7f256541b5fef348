// What a decoding thread does for each image once it has seen the largest: no allocation, no lock, counted (call_counts.h).
#include <gtest/gtest.h>

#include "dataloader/augment.h"
#include "dataloader/loader.h"
#include "dataloader/normalise.h"
#include "dataloader/sample_source.h"
#include "tests/dataloader/jpeg_oracle.h"
#include "tests/dataloader/test_images.h"
#include "tests/support/call_counts.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

constexpr int kSize = 64;

std::vector<std::string> Pictures() {
  std::vector<std::string> pictures;
  for (unsigned i = 0; i < 24; ++i) {
    JpegSpec spec{static_cast<int>(60 + i)};
    spec.h = i % 3 == 0 ? 1 : 2;
    spec.v = i % 3 == 2 ? 2 : 1;
    spec.gray = i % 7 == 6;
    spec.restart_interval = static_cast<int>(i % 4);
    pictures.push_back(EncodeJpegAs(MakeBusyImage(static_cast<int>(90 + 31 * i % 200),
                                                  static_cast<int>(80 + 47 * i % 230), i, 12),
                                    spec));
  }
  return pictures;
}

template <typename Work>
void ExpectNothingCounted(const Work& work) {
  if (!testing::CanCountCalls()) GTEST_SKIP() << "sanitizers have an allocator of their own";
  work();  // the largest picture, the tables
  work();
  testing::StartCountingCalls();
  work();
  const testing::CallCounts counts = testing::StopCountingCalls();
  EXPECT_EQ(counts.allocations, 0);
  EXPECT_EQ(counts.locks, 0);
}

class SteadyState : public ::testing::TestWithParam<ImageMode> {};

TEST_P(SteadyState, CookingAPictureNeitherAllocatesNorLocks) {
  const std::vector<std::string> pictures = Pictures();
  AugmentRecipe recipe;
  recipe.set_image_mode(GetParam());
  recipe.set_scale_min(0.2);
  recipe.set_flip_probability(0.5);
  recipe.set_jitter_contrast(0.3);
  recipe.mutable_rand_augment()->set_operations(2);
  recipe.set_pixel_type(AugmentRecipe::BF16_NORMALISED);
  ImageCooker cooker(recipe);
  const PixelWriter writer(recipe);
  const KeyedRandom random(1, "augment:train", 0);
  std::vector<uint8_t> planes(3 * kSize * kSize);
  std::vector<uint8_t> out(2 * planes.size());
  ExpectNothingCounted([&] {
    for (size_t i = 0; i < pictures.size(); ++i) {
      ASSERT_TRUE(
          cooker.CookForTraining(pictures[i], recipe, random, i, kSize, planes.data()).ok());
      writer.Write(planes.data(), planes.size() / 3, out.data());
    }
  });
}

LoaderOptions WriteShardOfPictures(const testing::TempDir& dir, ImageMode mode) {
  const std::vector<std::string> pictures = Pictures();
  std::vector<TestSample> samples;
  for (size_t i = 0; i < pictures.size(); ++i)
    samples.push_back(
        {"s" + std::to_string(i), {{"jpg", pictures[i]}, {"txt", "a caption of some words"}}});
  WriteShard(dir / "s.tar", samples);
  WriteBytes(dir / "vocabulary", "#version: 0.2\na b\n");
  LoaderOptions options;
  options.data.add_train_shards(dir / "s.tar");
  options.data.set_vocabulary(dir / "vocabulary");
  options.data.mutable_augment()->set_image_mode(mode);
  options.image_size = kSize;
  options.context_length = 32;
  return options;
}

// And so it is from the shard on, captions of plain text with known words included.
TEST_P(SteadyState, ASampleOfAShardNeitherAllocatesNorLocks) {
  const testing::TempDir dir;
  const LoaderOptions options = WriteShardOfPictures(dir, GetParam());
  const auto source = OpenSampleSource(options, SampleUse::kTrain);
  ASSERT_TRUE(source.ok()) << source.status();
  const std::unique_ptr<SampleCook> cook = (*source)->NewCook();
  MicroBatch batch;
  for (const FieldSpec& spec : (*source)->fields())
    batch.fields.push_back({spec, std::vector<uint8_t>(spec.bytes_per_row())});
  batch.targets.resize(1);
  ExpectNothingCounted([&] {
    for (uint64_t id = 0; id < static_cast<uint64_t>((*source)->num_samples()); ++id) {
      SampleRef ref{};
      ref.id = id;
      const Status status = cook->Cook(ref, 0, &batch);
      ASSERT_TRUE(status.ok()) << status;
    }
  });
}

// A loader's threads meet at micro-batches, not at rows.
TEST_P(SteadyState, ALoaderLocksForMicroBatchesOnly) {
  if (!testing::CanCountCalls()) GTEST_SKIP() << "sanitizers have an allocator of their own";
  constexpr int kBatch = 96;
  constexpr int kBatches = 6;
  const testing::TempDir dir;
  LoaderOptions options = WriteShardOfPictures(dir, GetParam());
  options.batch.set_micro_batch_size(kBatch);
  options.slots = {0};
  options.data.set_loader_threads(2);
  options.end_step = 4 + kBatches;
  const auto loader = Loader::Open(options);
  ASSERT_TRUE(loader.ok()) << loader.status();
  for (int64_t step = 0; step < options.end_step; ++step) {
    if (step == 4) testing::StartCountingCalls();
    auto batch = (*loader)->Next();
    ASSERT_TRUE(batch.ok()) << batch.status();
    (*loader)->Recycle(std::move(*batch));
  }
  const testing::CallCounts counts = testing::StopCountingCalls();
  EXPECT_LT(counts.allocations, kBatches * kBatch / 8);
  EXPECT_LT(counts.locks, kBatches * kBatch / 4);
}

INSTANTIATE_TEST_SUITE_P(Modes, SteadyState, ::testing::Values(ImageMode::FAST, ImageMode::EXACT),
                         [](const auto& info) { return ImageMode_Name(info.param); });

}  // namespace
}  // namespace weft
