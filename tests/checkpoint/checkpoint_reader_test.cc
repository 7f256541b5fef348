#include "checkpoint/checkpoint_reader.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "checkpoint/shard_format.h"
#include "tests/support/checkpoint_world.h"
#include "tests/support/fault_injecting_file_system.h"

namespace weft {
namespace {

const CheckpointName kName = {1000, 1, 2, 1};

// Three shards of a model that is large enough for blocks to matter: w has 600,000 elements, so a shard has 2.3 MiB.
class CheckpointReaderTest : public ::testing::Test {
 protected:
  void Write(int world, int64_t wide) {
    tensors_ = TinyTensors(wide);
    auto manifest = WriteTinyCheckpoint(&fs_, "ckpt", kName, world, tensors_);
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    manifest_ = *std::move(manifest);
  }
  std::string ShardPath(int rank) {
    return JoinPath(JoinPath("ckpt", manifest_.directory()), manifest_.shards(rank).file());
  }

  FaultInjectingFileSystem fs_;
  std::vector<TinyTensor> tensors_;
  checkpoint::Manifest manifest_;
};

TEST_F(CheckpointReaderTest, AnyNumberOfWritersAndReaders) {
  for (const int writers : {1, 2, 3, 4, 7}) {
    SCOPED_TRACE(writers);
    FaultInjectingFileSystem fs;
    const auto manifest = WriteTinyCheckpoint(&fs, "ckpt", kName, writers);
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    for (const int readers : {1, 2, 3, 5, 8}) {
      EXPECT_TRUE(CheckTinyCheckpoint(&fs, "ckpt", *manifest, readers).ok()) << readers;
    }
  }
}

TEST_F(CheckpointReaderTest, ReadsAcrossBlocks) {
  Write(3, 200000);
  ASSERT_EQ(manifest_.shards(0).block_crcs_size(), 3);
  EXPECT_TRUE(CheckTinyCheckpoint(&fs_, "ckpt", manifest_, 4, tensors_).ok());
}

TEST_F(CheckpointReaderTest, DescribesItsTensors) {
  Write(2, 40);
  const auto reader = CheckpointReader::Open(&fs_, "ckpt", manifest_);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_TRUE((*reader)->Has("param/w"));
  EXPECT_FALSE((*reader)->Has("param/x"));
  const auto info = (*reader)->tensor("param/w");
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->dtype, "f32");
  EXPECT_EQ(info->shape, (std::vector<int64_t>{40, 3}));
  EXPECT_EQ(info->num_elements, 120);
  EXPECT_EQ((*reader)->tensor("param/x").status().code(), StatusCode::kNotFound);
  EXPECT_EQ((*reader)->TensorNames().size(), 6U);
  EXPECT_EQ((*reader)->state().step(), 1000);
  float out[8];
  EXPECT_EQ((*reader)->Read("param/b", 3, 6, out).code(), StatusCode::kInvalidArgument);
}

TEST_F(CheckpointReaderTest, SmallTensorsShareOneReadOfTheirBlock) {
  std::vector<TinyTensor> many;
  for (int i = 0; i < 5000; ++i) many.push_back({"param/t" + std::to_string(i), {3, 5}});
  const auto manifest = WriteTinyCheckpoint(&fs_, "ckpt", kName, 1, many);
  ASSERT_TRUE(manifest.ok());
  auto reader = CheckpointReader::Open(&fs_, "ckpt", *manifest);
  ASSERT_TRUE(reader.ok());
  float out[15];
  for (const TinyTensor& tensor : many) ASSERT_TRUE((*reader)->Read(tensor.name, 0, 15, out).ok());
  EXPECT_EQ((*reader)->blocks_read(), NumBlocks(manifest->shards(0).payload_bytes()));
}

// Two tensor-parallel halves by columns, each cut over two data-parallel ranks in the middle of a row.
TEST_F(CheckpointReaderTest, GathersBoxes) {
  std::vector<int32_t> whole(6 * 8);
  std::iota(whole.begin(), whole.end(), 0);
  checkpoint::Manifest manifest;
  ASSERT_TRUE(fs_.MakeDirs("ckpt/" + AttemptDirectoryName(kName)).ok());
  manifest.set_format(kManifestFormat);
  manifest.set_directory(AttemptDirectoryName(kName));
  manifest.set_epoch(1);
  manifest.set_generation(2);
  manifest.set_attempt(1);
  *manifest.mutable_state() = TinyState(1000);
  for (int rank = 0; rank < 4; ++rank) {
    const int column = rank / 2 * 3;  // columns [0, 3) and [3, 8)
    const int width = rank / 2 == 0 ? 3 : 5;
    std::vector<int32_t> box;
    for (int row = 0; row < 6; ++row) {
      for (int c = 0; c < width; ++c)
        box.push_back(whole[static_cast<size_t>(row * 8 + column + c)]);
    }
    SliceData slice = FlatSlice("t", "i32", {6, 8}, 0, 0, nullptr);
    slice.meta.set_offsets(1, column);
    slice.meta.set_lengths(1, width);
    const int64_t cut = 6 * width / 2 + 1;
    slice.meta.set_flat_begin(rank % 2 == 0 ? 0 : cut);
    slice.meta.set_flat_end(rank % 2 == 0 ? cut : 6 * width);
    slice.data = box.data() + slice.meta.flat_begin();
    ShardWriterOptions options;
    options = {
        .rank = rank, .world_size = 4, .epoch = 1, .generation = 2, .step = 1000, .attempt = 1};
    auto info = WriteShard(&fs_, "ckpt/" + manifest.directory(), options, {slice});
    ASSERT_TRUE(info.ok()) << info.status();
    *manifest.add_shards() = *info;
  }
  auto reader = CheckpointReader::Open(&fs_, "ckpt", manifest);
  ASSERT_TRUE(reader.ok()) << reader.status();
  for (int64_t begin = 0; begin <= 48; ++begin) {
    for (int64_t end = begin; end <= 48; ++end) {
      std::vector<int32_t> out(static_cast<size_t>(end - begin), -1);
      ASSERT_TRUE((*reader)->Read("t", begin, end, out.data()).ok());
      for (int64_t i = begin; i < end; ++i)
        ASSERT_EQ(out[static_cast<size_t>(i - begin)], i) << begin << " " << end;
    }
  }
}

TEST_F(CheckpointReaderTest, ScalarsAndEmptyTensors) {
  const std::vector<TinyTensor> tensors = {{"param/scale", {}}, {"param/empty", {0, 4}}};
  const auto manifest = WriteTinyCheckpoint(&fs_, "ckpt", kName, 2, tensors);
  ASSERT_TRUE(manifest.ok());
  EXPECT_TRUE(CheckTinyCheckpoint(&fs_, "ckpt", *manifest, 1, tensors).ok());
}

// One flipped bit anywhere in the file is found by a full verification, and the message names shard and block.
TEST_F(CheckpointReaderTest, FindsEveryFlippedBit) {
  Write(2, 200000);
  const checkpoint::ShardInfo& shard = manifest_.shards(1);
  std::mt19937_64 random(1);
  std::vector<uint64_t> bits;
  for (int i = 0; i < 60; ++i) bits.push_back(random() % (shard.file_bytes() * 8));
  for (int i = 0; i < 20; ++i) bits.push_back(random() % (kShardHeaderBytes * 8));
  for (int i = 0; i < 20; ++i) bits.push_back(shard.file_bytes() * 8 - 1 - random() % 400);
  for (const uint64_t bit : bits) {
    fs_.FlipBit(ShardPath(1), bit);
    const Status status = VerifyCheckpoint(&fs_, "ckpt", manifest_).status();
    fs_.FlipBit(ShardPath(1), bit);
    ASSERT_EQ(status.code(), StatusCode::kCorruption) << "bit " << bit;
    EXPECT_NE(status.message().find(shard.file()), std::string::npos) << status;
    const uint64_t byte = bit / 8;
    std::string part = "footer";
    if (byte < kShardHeaderBytes) {
      part = "header";
    } else if (byte < kShardHeaderBytes + shard.payload_bytes()) {
      part = "block " + std::to_string((byte - kShardHeaderBytes) / kShardBlockBytes) + " ";
    }
    EXPECT_NE(status.message().find(part), std::string::npos) << "bit " << bit << ": " << status;
  }
  EXPECT_TRUE(VerifyCheckpoint(&fs_, "ckpt", manifest_).ok());
}

TEST_F(CheckpointReaderTest, DamageIsFoundBeforeTheBytesAreUsed) {
  Write(2, 200000);
  const uint64_t block1 = kShardHeaderBytes + kShardBlockBytes + 100;
  fs_.FlipBit(ShardPath(0), block1 * 8);
  auto reader = CheckpointReader::Open(&fs_, "ckpt", manifest_);
  ASSERT_TRUE(reader.ok());
  std::vector<float> out(600000);
  // The first block is fine, the second is not, whether a part of it or all of it is wanted.
  EXPECT_TRUE((*reader)->Read("param/w", 0, 1000, out.data()).ok());
  const Status part = (*reader)->Read("param/w", 270000, 270001, out.data());
  EXPECT_EQ(part.code(), StatusCode::kCorruption);
  EXPECT_NE(part.message().find("shard-00000-of-00002.bin: block 1 (bytes 1048640 to 2097216)"),
            std::string::npos)
      << part;
  EXPECT_EQ((*reader)->Read("param/w", 0, 600000, out.data()).code(), StatusCode::kCorruption);
}

TEST_F(CheckpointReaderTest, FindsEveryTruncation) {
  Write(2, 100000);
  const std::string path = ShardPath(1);
  const std::string whole = fs_.ReadFile(path).value();
  int cuts = 0;
  for (uint64_t boundary = 0; boundary < whole.size(); boundary += 4096) {
    for (const int64_t delta : {-1, 0, 1}) {
      const int64_t size = static_cast<int64_t>(boundary) + delta;
      if (size < 0) continue;
      fs_.CutFile(path, static_cast<uint64_t>(size));
      const Status open = CheckpointReader::Open(&fs_, "ckpt", manifest_).status();
      ASSERT_EQ(open.code(), StatusCode::kCorruption) << size;
      EXPECT_NE(open.message().find("shard-00001-of-00002.bin: "), std::string::npos) << open;
      ASSERT_EQ(VerifyCheckpoint(&fs_, "ckpt", manifest_).status().code(), StatusCode::kCorruption);
      fs_.CutFile(path, 0);
      fs_.AddBytes(path, whole);
      ++cuts;
    }
  }
  EXPECT_GT(cuts, 800);
  fs_.AddBytes(path, "x");
  EXPECT_EQ(VerifyCheckpoint(&fs_, "ckpt", manifest_).status().code(), StatusCode::kCorruption);
}

TEST_F(CheckpointReaderTest, FindsEveryZeroedPage) {
  Write(2, 20000);
  const std::string path = ShardPath(0);
  const std::string whole = fs_.ReadFile(path).value();
  for (uint64_t page = 0; page < whole.size(); page += 4096) {
    std::string damaged = whole;
    for (uint64_t i = page; i < std::min<uint64_t>(page + 4096, whole.size()); ++i)
      damaged[i] = '\0';
    fs_.CutFile(path, 0);
    fs_.AddBytes(path, damaged);
    ASSERT_EQ(VerifyCheckpoint(&fs_, "ckpt", manifest_).status().code(), StatusCode::kCorruption)
        << page;
  }
}

TEST_F(CheckpointReaderTest, MissingShardIsNamed) {
  Write(2, 40);
  ASSERT_TRUE(fs_.Remove(ShardPath(1)).ok());
  const Status status = CheckpointReader::Open(&fs_, "ckpt", manifest_).status();
  EXPECT_EQ(status.code(), StatusCode::kCorruption);
  EXPECT_NE(status.message().find("shard-00001-of-00002.bin: the file is missing"),
            std::string::npos)
      << status;
}

}  // namespace
}  // namespace weft
