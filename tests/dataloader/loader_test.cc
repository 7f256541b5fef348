#include "dataloader/loader.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <set>

#include "cli/data_command.h"
#include "dataloader/order.h"
#include "tests/dataloader/test_images.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

class LoaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    WriteShard(Path("train-000000.tar"), MakeSamples(0, 37));
    WriteShard(Path("train-000001.tar"), MakeSamples(37, 13));
    WriteBytes(Path("vocab.txt"), "#version: test\np i\n");
    options_.data.add_train_shards(Path("train-{000000..000001}.tar"));
    options_.data.add_eval_shards(Path("train-000001.tar"));
    options_.data.set_vocabulary(Path("vocab.txt"));
    options_.data.mutable_augment()->set_flip_probability(0.5);
    options_.batch.set_slots(4);
    options_.batch.set_micro_batches(2);
    options_.batch.set_micro_batch_size(4);
    options_.seed = 11;
    options_.image_size = 16;
    options_.context_length = 8;
    options_.slots = {0, 1, 2, 3};
    options_.end_step = 6;
  }

  std::string Path(const std::string& name) const { return dir_.path() + "/" + name; }

  static std::unique_ptr<Loader> Open(const LoaderOptions& options) {
    auto loader = Loader::Open(options);
    EXPECT_TRUE(loader.ok()) << loader.status();
    return loader.ok() ? std::move(*loader) : nullptr;
  }

  // Everything that the loader gives, by (step, slot, micro-batch).
  static std::map<std::tuple<int64_t, int, int>, MicroBatch> ReadAll(const LoaderOptions& options) {
    std::map<std::tuple<int64_t, int, int>, MicroBatch> all;
    const auto loader = Open(options);
    if (loader == nullptr) return all;
    const int64_t count = (options.end_step - options.first_step) *
                          static_cast<int64_t>(options.slots.size()) *
                          options.batch.micro_batches();
    std::tuple<int64_t, int, int> last{-1, 0, 0};
    for (int64_t i = 0; i < count; ++i) {
      auto batch = loader->Next();
      EXPECT_TRUE(batch.ok()) << batch.status();
      if (!batch.ok()) return all;
      const std::tuple<int64_t, int, int> key{batch->step, batch->slot, batch->micro_batch};
      EXPECT_LT(last, key);
      last = key;
      all.emplace(key, std::move(*batch));
    }
    EXPECT_EQ(loader->Next().status().code(), StatusCode::kFailedPrecondition);
    return all;
  }

  static void ExpectSame(const MicroBatch& a, const MicroBatch& b) {
    EXPECT_EQ(a.sample_ids, b.sample_ids);
    ASSERT_EQ(a.fields.size(), 3u);
    ASSERT_EQ(b.fields.size(), 3u);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(a.fields[i].spec.name, b.fields[i].spec.name);
      EXPECT_EQ(a.fields[i].bytes, b.fields[i].bytes);
    }
  }

  static const std::vector<uint8_t>& Bytes(const MicroBatch& batch, const std::string& field) {
    return batch.Find(field)->bytes;
  }

  testing::TempDir dir_;
  LoaderOptions options_;
};

TEST_F(LoaderTest, FollowsTheOrder) {
  const auto all = ReadAll(options_);
  ASSERT_EQ(all.size(), 6u * 4 * 2);
  auto order = SampleOrder::Create({11, 4, 32, 0, 128, 16}, {{"train", {37, 13}}});
  ASSERT_TRUE(order.ok());
  for (const auto& [key, batch] : all) {
    EXPECT_EQ(Bytes(batch, "pixels").size(), 4u * 3 * 16 * 16);
    EXPECT_EQ(Bytes(batch, "ids").size(), 4u * 4 * 8);
    EXPECT_EQ(Bytes(batch, "eot").size(), 4u * 4);
    EXPECT_EQ(batch.targets, (std::vector<int32_t>{0, 0, 0, 0}));
    for (int64_t row = 0; row < 4; ++row) {
      const SampleRef ref = order->At(batch.step, batch.slot, batch.micro_batch * 4 + row);
      EXPECT_EQ(batch.sample_ids[static_cast<size_t>(row)], static_cast<int64_t>(ref.id));
    }
  }
}

TEST_F(LoaderTest, ThreadsRanksAndRestartsChangeNothing) {
  const auto all = ReadAll(options_);
  LoaderOptions other = options_;
  other.data.set_loader_threads(3);
  other.data.set_prefetch(7);
  other.first_step = 3;
  for (const std::vector<int>& slots : {std::vector<int>{1, 2}, {0, 3}}) {
    other.slots = slots;
    const auto part = ReadAll(other);
    ASSERT_EQ(part.size(), 3u * 2 * 2);
    for (const auto& [key, batch] : part) ExpectSame(batch, all.at(key));
  }
}

TEST_F(LoaderTest, FieldsAreTheSameAlone) {
  const auto all = ReadAll(options_);
  for (const std::string name : {"pixels", "ids", "eot"}) {
    LoaderOptions other = options_;
    other.fields = {{name}};
    for (const auto& [key, batch] : ReadAll(other)) {
      ASSERT_EQ(batch.fields.size(), 1u);
      EXPECT_EQ(Bytes(batch, name), Bytes(all.at(key), name));
    }
  }
  LoaderOptions none = options_;
  none.fields.emplace();
  for (const auto& [key, batch] : ReadAll(none)) {
    EXPECT_TRUE(batch.fields.empty());
    EXPECT_EQ(batch.sample_ids, all.at(key).sample_ids);
  }
}

TEST_F(LoaderTest, RecycledMemoryChangesNothing) {
  const auto all = ReadAll(options_);
  const auto loader = Open(options_);
  for (int i = 0; i < 6 * 4 * 2; ++i) {
    auto batch = loader->Next();
    ASSERT_TRUE(batch.ok());
    ExpectSame(*batch, all.at({batch->step, batch->slot, batch->micro_batch}));
    for (Field& field : batch->fields) std::fill(field.bytes.begin(), field.bytes.end(), 77);
    loader->Recycle(std::move(*batch));
  }
}

TEST_F(LoaderTest, AugmentationChangesWithEpochAndSeed) {
  const auto by_sample = [this](uint64_t seed) {
    LoaderOptions options = options_;
    options.seed = seed;
    options.data.mutable_augment()->set_scale_min(0.3);
    std::map<int64_t, std::set<std::vector<uint8_t>>> crops;
    for (const auto& [key, batch] : ReadAll(options)) {
      for (size_t i = 0; i < 4; ++i) {
        crops[batch.sample_ids[i]].insert(
            {Bytes(batch, "pixels").begin() + static_cast<int64_t>(i) * 768,
             Bytes(batch, "pixels").begin() + static_cast<int64_t>(i + 1) * 768});
      }
    }
    return crops;
  };
  // 192 rows of 50 samples: three epochs and more, each with a crop of its own.
  const auto one = by_sample(1);
  for (const auto& [id, crops] : one) EXPECT_GE(crops.size(), 3u) << id;
  const auto two = by_sample(2);
  for (const auto& [id, crops] : one) {
    for (const std::vector<uint8_t>& crop : crops) EXPECT_EQ(two.at(id).count(crop), 0u) << id;
  }
}

TEST_F(LoaderTest, BadSamplesAreReplacedAlikeEverywhere) {
  auto samples = MakeSamples(37, 13);
  samples[2].second["jpg"] = "this is no image";
  samples[3].second.erase("txt");
  samples[5].second["jpg"].resize(samples[5].second["jpg"].size() / 2);
  WriteShard(Path("train-000001.tar"), samples);
  const auto all = ReadAll(options_);
  ASSERT_EQ(all.size(), 48u);
  std::map<int64_t, int> seen;
  for (const auto& [key, batch] : all) {
    for (const int64_t id : batch.sample_ids) ++seen[id];
  }
  for (const int64_t bad : {39, 40, 42}) EXPECT_EQ(seen.count(bad), 0u) << bad;
  EXPECT_EQ(seen.size(), 47u);
  LoaderOptions other = options_;
  other.fields = {{"ids"}};
  other.slots = {2};
  other.data.set_loader_threads(2);
  for (const auto& [key, batch] : ReadAll(other)) {
    EXPECT_EQ(batch.sample_ids, all.at(key).sample_ids);
    EXPECT_EQ(Bytes(batch, "ids"), Bytes(all.at(key), "ids"));
  }
}

TEST_F(LoaderTest, CheckedShardsNeedNoPictureWithoutPixels) {
  auto samples = MakeSamples(37, 13);
  samples[2].second["jpg"] = "this is no image";
  samples[5].second["jpg"].resize(samples[5].second["jpg"].size() / 2);
  samples[7].second.erase("jpg");
  WriteShard(Path("train-000001.tar"), samples);
  const auto all = ReadAll(options_);
  const std::string shards = Path("train-{000000..000001}.tar");
  ::testing::internal::CaptureStdout();
  ASSERT_EQ(DataCommand({"check", shards}), 0);
  EXPECT_NE(::testing::internal::GetCapturedStdout().find("13 samples, 2 bad"), std::string::npos);
  const auto checked = ReadAll(options_);
  for (const auto& [key, batch] : checked) ExpectSame(batch, all.at(key));
  // Bytes that nobody has to decode may be anything.
  const size_t size = ReadBytes(Path("train-000001.tar")).size();
  samples[9].second["jpg"].assign(samples[9].second["jpg"].size(), 'x');
  WriteShard(Path("train-000001.tar"), samples);
  ASSERT_EQ(ReadBytes(Path("train-000001.tar")).size(), size);
  LoaderOptions other = options_;
  other.fields = {{"ids"}};
  for (const auto& [key, batch] : ReadAll(other)) {
    EXPECT_EQ(batch.sample_ids, all.at(key).sample_ids);
    EXPECT_EQ(Bytes(batch, "ids"), Bytes(all.at(key), "ids"));
  }
  // Whoever decodes them says so, and does not replace the sample behind the others' backs.
  const auto loader = Open(options_);
  Status status;
  for (int i = 0; i < 48 && status.ok(); ++i) status = loader->Next().status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_NE(status.message().find("weft data check"), std::string::npos) << status;
  // A list of another shard is not used.
  samples.pop_back();
  WriteShard(Path("train-000001.tar"), samples);
  ASSERT_EQ(ReadAll(options_).size(), 48u);
}

TEST_F(LoaderTest, OnlyBadSamplesAreFatal) {
  auto samples = MakeSamples(0, 30);
  for (auto& sample : samples) sample.second = {{"gif", "GIF89a"}, {"txt", "x"}};
  WriteShard(Path("train-000000.tar"), samples);
  WriteShard(Path("train-000001.tar"), {});
  const auto loader = Open(options_);
  const Status status = loader->Next().status();
  EXPECT_EQ(status.code(), StatusCode::kCorruption);
  EXPECT_NE(status.message().find("train-000000.tar"), std::string::npos) << status;
  EXPECT_NE(status.message().find("has .gif, .txt"), std::string::npos) << status;
}

TEST_F(LoaderTest, WrongOptionsNameTheField) {
  const auto message = [](const LoaderOptions& options) {
    return Loader::Open(options).status().message();
  };
  LoaderOptions wrong = options_;
  wrong.data.add_train_shards(Path("none.tar"));
  EXPECT_NE(message(wrong).find("data.train_shards: open shard " + Path("none.tar")),
            std::string::npos)
      << message(wrong);
  wrong = options_;
  wrong.data.set_vocabulary(Path("none.txt"));
  EXPECT_NE(message(wrong).find("data.vocabulary"), std::string::npos) << message(wrong);
  wrong = options_;
  wrong.data.clear_vocabulary();
  EXPECT_NE(message(wrong).find("data.vocabulary"), std::string::npos) << message(wrong);
  wrong = options_;
  wrong.data.mutable_augment()->set_scale_min(1.5);
  EXPECT_NE(message(wrong).find("data.augment.scale_min"), std::string::npos) << message(wrong);
  wrong = options_;
  wrong.data.mutable_order()->set_lanes(3);
  EXPECT_NE(message(wrong).find("data.order.lanes"), std::string::npos) << message(wrong);
  wrong = options_;
  wrong.vocab_size = 49408;
  EXPECT_NE(message(wrong).find("vocab_size is at most 515"), std::string::npos) << message(wrong);
  wrong = options_;
  wrong.fields = {{"pixel"}};
  EXPECT_NE(message(wrong).find("no field 'pixel'"), std::string::npos) << message(wrong);
  for (const std::vector<int>& slots : {std::vector<int>{}, {4}, {-1}, {1, 1}}) {
    wrong = options_;
    wrong.slots = slots;
    EXPECT_NE(message(wrong).find("slot"), std::string::npos) << message(wrong);
  }
}

TEST_F(LoaderTest, ACutShardIsRefused) {
  const std::string whole = ReadBytes(Path("train-000001.tar"));
  WriteBytes(Path("train-000001.tar"), whole.substr(0, 9000));
  const Status status = Loader::Open(options_).status();
  EXPECT_EQ(status.code(), StatusCode::kCorruption);
  EXPECT_NE(status.message().find("train-000001.tar, byte "), std::string::npos) << status;
  EXPECT_NE(status.message().find("cut"), std::string::npos) << status;
}

TEST_F(LoaderTest, ManifestHashFollowsTheContents) {
  const std::string hash = Open(options_)->manifest_hash();
  EXPECT_EQ(hash.size(), 64u);
  EXPECT_EQ(Open(options_)->manifest_hash(), hash);
  LoaderOptions other = options_;
  other.data.clear_train_shards();
  other.data.add_train_shards(Path("train-000000.tar"));
  EXPECT_NE(Open(other)->manifest_hash(), hash);
  WriteShard(Path("train-000001.tar"), MakeSamples(38, 13));  // same sizes, other keys
  EXPECT_NE(Open(options_)->manifest_hash(), hash);
}

TEST_F(LoaderTest, EvalReadsInOrder) {
  auto eval = EvalSet::Open(options_);
  ASSERT_TRUE(eval.ok()) << eval.status();
  EXPECT_EQ((*eval)->size(), 13);
  auto batch = (*eval)->Read(2, 5);
  ASSERT_TRUE(batch.ok()) << batch.status();
  EXPECT_EQ(batch->sample_ids, (std::vector<int64_t>{2, 3, 4}));
  EXPECT_EQ(Bytes(*batch, "pixels").size(), 3u * 768);
  auto again = (*eval)->Read(3, 4);
  EXPECT_TRUE(std::equal(Bytes(*again, "pixels").begin(), Bytes(*again, "pixels").end(),
                         Bytes(*batch, "pixels").begin() + 768));
  auto sample = (*eval)->Sample(3);
  ASSERT_TRUE(sample.ok());
  EXPECT_EQ(sample->key, "s000040");
  EXPECT_EQ(sample->caption, "picture number 40");
  EXPECT_FALSE(sample->image_bytes.empty());
  EXPECT_FALSE((*eval)->Read(10, 14).ok());
  EXPECT_FALSE((*eval)->Sample(13).ok());
}

}  // namespace
}  // namespace weft
