// What a plan says of reads, bytes and cache, against what is known of small sets.
#include "dataloader/data_plan.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <thread>

#include "cli/data_command.h"
#include "cli/planned_sets.h"
#include "cluster/base/logging.h"
#include "dataloader/batch_dealer.h"
#include "dataloader/bpe_trainer.h"
#include "dataloader/loader.h"
#include "dataloader/pack_file.h"
#include "dataloader/sample_mix.h"
#include "tests/dataloader/test_images.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

constexpr uint64_t kSampleBytes = 10;
constexpr uint64_t kChunk = 8;

// One shard of 64 chunks of 8 samples.
StatusOr<DataPlan> Plan(int64_t nodes, int64_t steps) {
  OrderOptions options;
  options.slots = 4;
  options.global_batch = 32;
  options.lanes = 4;
  options.chunk = kChunk;
  options.window = 4;
  const auto order = SampleOrder::Create(options, {{"a", {512}}});
  if (!order.ok()) return order.status();
  return PlanData(*order, {512}, {nodes, 4, steps},
                  [](const SampleRef& ref, uint64_t* bytes) -> StatusOr<PlannedChunk> {
                    *bytes = kSampleBytes;
                    return PlannedChunk{ref.id / kChunk, kChunk * kSampleBytes};
                  });
}

TEST(DataPlan, OneNodeReadsEachChunkOnceAnEpoch) {
  const auto plan = Plan(1, 16);  // 512 samples
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->nodes.size(), 1U);
  EXPECT_EQ(plan->nodes[0].samples, 512);
  EXPECT_EQ(plan->nodes[0].reads, 64U);
  EXPECT_EQ(plan->nodes[0].bytes, 512 * kSampleBytes);
  EXPECT_DOUBLE_EQ(plan->amplification, 1);
  EXPECT_DOUBLE_EQ(plan->epochs[0], 1);
  // 4 lanes with windows of 4 chunks are open, and the tail's chunks (at most 512 - 4 * 15 * 8 = 32 samples).
  EXPECT_LE(plan->nodes[0].peak_cache, (2 * 4 * 4 + 32) * kChunk * kSampleBytes);
  EXPECT_GE(plan->nodes[0].peak_cache, 4 * 3 * kChunk * kSampleBytes);
}

TEST(DataPlan, NodesShareTheSamplesAndFewChunks) {
  const auto plan = Plan(4, 16);
  ASSERT_TRUE(plan.ok()) << plan.status();
  uint64_t bytes = 0;
  for (const NodePlan& node : plan->nodes) {
    EXPECT_EQ(node.samples, 128);
    bytes += node.bytes;
  }
  // Only chunks of the tail are read by more than one node: at most 4 of them, by 4 nodes.
  EXPECT_GE(bytes, 512 * kSampleBytes);
  EXPECT_LE(bytes, 512 * kSampleBytes + 4 * 3 * kChunk * kSampleBytes);
  EXPECT_DOUBLE_EQ(plan->amplification, static_cast<double>(bytes) / (512 * kSampleBytes));
}

TEST(DataPlan, MoreNodesThanSlotsAreRefused) {
  EXPECT_EQ(Plan(5, 1).status().code(), StatusCode::kInvalidArgument);
}

TEST(DataPlan, TheCommandReadsARecipe) {
  testing::TempDir dir;
  WriteShard(dir / "a.tar", MakeSamples(0, 40, 16));
  const std::string recipe = std::string(WEFT_SOURCE_DIR) + "/recipes/clip/demo.textproto";
  ::testing::internal::CaptureStdout();
  const int code = DataCommand({"plan", recipe, "--nodes", "1", "--steps", "3", "--rate", "1000",
                                "--set", "data.train_shards[0]=" + (dir / "a.tar")});
  const std::string out = ::testing::internal::GetCapturedStdout();
  EXPECT_EQ(code, 0);
  EXPECT_NE(out.find("set train: 40 samples"), std::string::npos) << out;
  EXPECT_NE(out.find("for 1000 samples/s"), std::string::npos) << out;
}

// Two sets of pictures in shards, read by real loaders through a cache of their own for each node: the plan says which chunks
// they fetch, to the byte.
class PlanOfARun : public ::testing::Test {
 protected:
  PlanOfARun() {
    options_.seed = 5;
    options_.batch.set_slots(4);
    options_.batch.set_micro_batch_size(4);
    options_.image_size = 12;
    options_.context_length = 16;
    options_.end_step = 32;  // more than an epoch of the first set
    const auto vocabulary = BpeTrainer(BpeStyle::kClip).Train(BpeFixedEntries(BpeStyle::kClip));
    WEFT_CHECK(vocabulary.ok());
    WriteBytes(dir_ / "vocab.txt", *vocabulary);
    DataRecipe& data = options_.data;
    data.set_vocabulary(dir_ / "vocab.txt");
    data.mutable_order()->set_lanes(4);
    data.mutable_order()->set_chunk(6);
    data.mutable_order()->set_window(3);
    data.mutable_balance()->set_group(2);
    for (int set = 0; set < 2; ++set) {
      const std::string stem = dir_ / std::to_string(set);
      WriteShard(stem + "-0.tar", MakeSamples(set * 1000, 230, 20));
      WriteShard(stem + "-1.tar", MakeSamples(set * 1000 + 500, 71, 24));
      DataSetRecipe* recipe = data.add_sets();
      recipe->set_name("set-" + std::to_string(set));
      recipe->add_shards(stem + "-{0..1}.tar");
      recipe->set_weight(3 - 2 * set);
    }
  }

  StatusOr<DataPlan> Plan(int64_t nodes) {
    WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<SampleMix> mix, SampleMix::Open(options_));
    WEFT_ASSIGN_OR_RETURN(SampleOrder order, MakeOrder(options_.data, options_.batch, options_.seed,
                                                       mix->OrderedSets()));
    BatchDealer dealer(options_.data, options_.batch, options_.seed, std::move(order), mix.get());
    std::vector<std::unique_ptr<PlannedSet>> sets;
    std::vector<uint64_t> samples;
    for (int i = 0; i < 2; ++i) {
      WEFT_ASSIGN_OR_RETURN(std::unique_ptr<PlannedSet> set,
                            OpenPlannedSet(OptionsOfSet(options_, i)));
      samples.push_back(static_cast<uint64_t>(set->num_samples()));
      sets.push_back(std::move(set));
    }
    const RowsOf rows_of = [&](int64_t step, int64_t slot) -> StatusOr<std::vector<SampleRef>> {
      std::vector<SampleRef> rows;
      for (int64_t row = 0; row < 4; ++row) rows.push_back(*dealer.At(step, slot, row, 0));
      return rows;
    };
    return PlanData(rows_of, samples, {nodes, 4, options_.end_step},
                    [&](const SampleRef& ref, uint64_t* bytes) {
                      return sets[static_cast<size_t>(ref.set)]->ChunkOf(
                          static_cast<int64_t>(ref.id), bytes);
                    });
  }

  struct Fetched {
    uint64_t chunks = 0;
    uint64_t bytes = 0;
  };
  static Fetched Count(const std::string& folder) {
    Fetched fetched;
    for (const auto& file : std::filesystem::directory_iterator(folder)) {
      if (file.path().extension() != ".chunk") continue;
      ++fetched.chunks;
      fetched.bytes += std::filesystem::file_size(file.path());
    }
    return fetched;
  }

  // What a loader of the node's slots leaves in its cache.
  Fetched Run(int64_t node, int64_t nodes, const Fetched& wanted) {
    LoaderOptions own = options_;
    own.data.set_cache_dir(dir_ / ("cache-" + std::to_string(nodes) + "-" + std::to_string(node)));
    for (int64_t slot = node * 4 / nodes; slot < (node + 1) * 4 / nodes; ++slot)
      own.slots.push_back(static_cast<int>(slot));
    auto loader = Loader::Open(own);
    EXPECT_TRUE(loader.ok()) << loader.status();
    const int64_t count = own.end_step * static_cast<int64_t>(own.slots.size());
    for (int64_t i = 0; i < count; ++i) EXPECT_TRUE((*loader)->Next().ok());
    // Its threads may still be fetching.
    for (int i = 0; i < 500 && Count(own.data.cache_dir()).chunks < wanted.chunks; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return Count(own.data.cache_dir());
  }

  testing::TempDir dir_;
  LoaderOptions options_;
};

TEST_F(PlanOfARun, IsWhatItsLoadersFetch) {
  for (const int64_t nodes : {1, 2, 4}) {
    // Groups of two slots are on one node, so that no sample moves between nodes.
    if (nodes == 4) options_.data.clear_balance();
    const auto plan = Plan(nodes);
    ASSERT_TRUE(plan.ok()) << plan.status();
    for (int64_t node = 0; node < nodes; ++node) {
      const NodePlan& of = plan->nodes[static_cast<size_t>(node)];
      // The head of a cache's file.
      constexpr uint64_t kHead = 88;
      const Fetched fetched = Run(node, nodes, {of.chunks, 0});
      EXPECT_EQ(fetched.chunks, of.chunks) << node << " of " << nodes;
      EXPECT_EQ(fetched.bytes, of.chunk_bytes + kHead * of.chunks) << node << " of " << nodes;
      EXPECT_EQ(of.samples, 32 * 16 / nodes);
      EXPECT_GT(of.reads, of.chunks);
      EXPECT_LE(of.peak_cache, of.bytes);
    }
  }
}

TEST_F(PlanOfARun, TextIsReadFromItsPackFiles) {
  const auto vocabulary = BpeTrainer(BpeStyle::kRoberta).Train(BpeFixedEntries(BpeStyle::kRoberta));
  ASSERT_TRUE(vocabulary.ok());
  WriteBytes(dir_ / "roberta.txt", *vocabulary);
  std::string text;
  for (int i = 0; i < 300; ++i) text += std::string(static_cast<size_t>(3 + i % 17), 'a') + "\n";
  WriteBytes(dir_ / "text.txt", text);
  LoaderOptions options;
  options.family = SampleFamily::kMaskedText;
  options.context_length = 24;
  options.data.set_vocabulary(dir_ / "roberta.txt");
  options.data.add_train_shards(dir_ / "text.txt");
  options.data.set_index_dir(dir_ / "packs");
  options.data.mutable_order()->set_chunk(8);
  const auto set = OpenPlannedSet(options);
  ASSERT_TRUE(set.ok()) << set.status();
  uint64_t packs = 0;
  for (const auto& file : std::filesystem::directory_iterator(dir_ / "packs"))
    packs += file.path().extension() == ".lock" ? 0 : std::filesystem::file_size(file.path());
  std::map<uint64_t, uint64_t> chunks;
  uint64_t samples = 0;
  for (int64_t id = 0; id < (*set)->num_samples(); ++id) {
    uint64_t bytes = 0;
    const auto chunk = (*set)->ChunkOf(id, &bytes);
    ASSERT_TRUE(chunk.ok()) << chunk.status();
    chunks[chunk->id] = chunk->bytes;
    samples += bytes;
  }
  EXPECT_EQ(chunks.size(), static_cast<size_t>(((*set)->num_samples() + 7) / 8));
  uint64_t sum = 0;
  for (const auto& [id, bytes] : chunks) sum += bytes;
  EXPECT_EQ(sum, samples);
  EXPECT_EQ(sum + sizeof(PackHead), packs);
}

TEST(DataPlan, TheCommandReadsTextRecipes) {
  testing::TempDir dir;
  const auto vocabulary = BpeTrainer(BpeStyle::kRoberta).Train(BpeFixedEntries(BpeStyle::kRoberta));
  ASSERT_TRUE(vocabulary.ok());
  WriteBytes(dir / "vocab.txt", *vocabulary);
  std::string text;
  for (int i = 0; i < 4000; ++i) text += "some words of a sentence that is long enough\n";
  WriteBytes(dir / "text.txt", text);
  const std::string recipe = std::string(WEFT_SOURCE_DIR) + "/recipes/roberta/tiny.textproto";
  ::testing::internal::CaptureStdout();
  const int code = DataCommand(
      {"plan", recipe, "--nodes", "2", "--rate", "1000", "--set",
       "data.train_shards=[\"" + (dir / "text.txt") + "\"]", "--set",
       "data.vocabulary=" + (dir / "vocab.txt"), "--set", "data.index_dir=" + (dir / "packs"),
       "--set", "model.roberta.vocab_size=" + std::to_string(BpeFixedEntries(BpeStyle::kRoberta))});
  const std::string out = ::testing::internal::GetCapturedStdout();
  EXPECT_EQ(code, 0);
  EXPECT_NE(out.find(" samples, 1.0"), std::string::npos) << out;
  EXPECT_NE(out.find("  blocks of "), std::string::npos) << out;
  EXPECT_NE(out.find("a sample takes "), std::string::npos) << out;
  EXPECT_NE(out.find("reads/s and "), std::string::npos) << out;
}

}  // namespace
}  // namespace weft
