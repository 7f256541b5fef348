#include "checkpoint/coverage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/shard_format.h"
#include "tests/support/checkpoint_world.h"
#include "tests/support/fault_injecting_file_system.h"

namespace weft {
namespace {

using ::testing::HasSubstr;

class CoverageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto manifest = WriteTinyCheckpoint(&fs_, "ckpt", {1000, 1, 2, 1}, 3);
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    manifest_ = *std::move(manifest);
  }
  checkpoint::Slice* Slice(int shard, const std::string& tensor) {
    for (auto& slice : *manifest_.mutable_shards(shard)->mutable_slices()) {
      if (slice.tensor() == tensor) return &slice;
    }
    return nullptr;
  }
  // The first complaint, with root CRCs brought in line with what the test has changed.
  std::string Complaint() {
    for (auto& shard : *manifest_.mutable_shards()) shard.set_root_crc(ShardRootCrc(shard));
    return CheckCoverage(manifest_).message();
  }
  void EraseTensor(const std::string& tensor) {
    for (auto& shard : *manifest_.mutable_shards()) {
      for (int i = shard.slices_size() - 1; i >= 0; --i) {
        if (shard.slices(i).tensor() == tensor) shard.mutable_slices()->DeleteSubrange(i, 1);
      }
    }
  }

  FaultInjectingFileSystem fs_;
  checkpoint::Manifest manifest_;
};

TEST_F(CoverageTest, AcceptsWhatIsWhole) { EXPECT_EQ(Complaint(), ""); }

TEST_F(CoverageTest, NamesAHole) {
  Slice(1, "param/w")->set_flat_begin(45);
  EXPECT_THAT(
      Complaint(),
      HasSubstr(
          "tensor 'param/w' [40, 3], box at [0, 0] of [40, 3]: elements [40, 45) are in no shard"));
}

TEST_F(CoverageTest, NamesAHoleAtTheEnd) {
  Slice(2, "adam.v/b")->set_flat_end(4);
  EXPECT_THAT(
      Complaint(),
      HasSubstr("tensor 'adam.v/b' [5], box at [0] of [5]: elements [4, 5) are in no shard"));
}

TEST_F(CoverageTest, NamesAnOverlap) {
  Slice(1, "param/w")->set_flat_begin(30);
  EXPECT_THAT(Complaint(), HasSubstr("elements [30, 40) are in shard-00000-of-00003.bin and again "
                                     "in shard-00001-of-00003.bin"));
}

TEST_F(CoverageTest, NamesDifferentShapesAndTypes) {
  Slice(1, "param/w")->set_dtype("i32");
  EXPECT_THAT(Complaint(),
              HasSubstr("'param/w' is f32 [40, 3] in shard-00000-of-00003.bin but i32 [40, 3]"));
}

TEST_F(CoverageTest, NamesOverlappingBoxes) {
  // Rank 0 has rows [0, 14), rank 1 rows [13, 27), rank 2 rows [27, 40).
  const int64_t first[] = {0, 13, 27};
  const int64_t rows[] = {14, 14, 13};
  for (int rank = 0; rank < 3; ++rank) {
    checkpoint::Slice* slice = Slice(rank, "param/w");
    slice->set_offsets(0, first[rank]);
    slice->set_lengths(0, rows[rank]);
    slice->set_flat_begin(0);
    slice->set_flat_end(rows[rank] * 3);
    manifest_.mutable_shards(rank)->set_payload_bytes(
        10000);  // the payload itself is not looked at here
  }
  EXPECT_THAT(Complaint(),
              HasSubstr("the boxes at [0, 0] (shard-00000-of-00003.bin) and at [13, 0]"));
  Slice(0, "param/w")->set_lengths(0, 13);
  Slice(0, "param/w")->set_flat_end(39);
  EXPECT_EQ(Complaint(), "");
  Slice(2, "param/w")->set_lengths(0, 12);
  Slice(2, "param/w")->set_flat_end(36);
  EXPECT_THAT(Complaint(), HasSubstr("its boxes hold 117 of 120 elements"));
}

TEST_F(CoverageTest, NamesAMissingOptimizerTensor) {
  EraseTensor("adam.m/b");
  EXPECT_THAT(Complaint(), HasSubstr("'adam.m/b' is missing, though 'param/b' is there"));
  EraseTensor("param/b");
  EXPECT_THAT(Complaint(), HasSubstr("'param/b' is missing, though 'adam.v/b' is there"));
  EraseTensor("adam.v/b");
  EXPECT_EQ(Complaint(), "");
  for (const char* tensor : {"adam.m/w", "adam.v/w"}) EraseTensor(tensor);
  EXPECT_EQ(Complaint(), "") << "parameters alone are a model";
}

TEST_F(CoverageTest, FrozenParametersHaveNoMoments) {
  EraseTensor("adam.m/b");
  EraseTensor("adam.v/b");
  manifest_.mutable_state()->add_frozen("w");
  EXPECT_THAT(Complaint(), HasSubstr("'adam.m/b' is missing"));
  manifest_.mutable_state()->add_frozen("b");
  EXPECT_EQ(Complaint(), "");
}

TEST_F(CoverageTest, NamesWhatAResumeWouldMiss) {
  manifest_.mutable_state()->clear_seed();
  EXPECT_THAT(Complaint(), HasSubstr("seed"));
  *manifest_.mutable_state() = TinyState(1000);
  manifest_.mutable_state()->clear_recipe_hash();
  EXPECT_THAT(Complaint(), HasSubstr("recipe hash"));
  *manifest_.mutable_state() = TinyState(1000);
  manifest_.mutable_state()->clear_cursor();
  EXPECT_THAT(Complaint(), HasSubstr("cursor"));
}

TEST_F(CoverageTest, NamesAForeignShard) {
  manifest_.mutable_shards(1)->set_generation(1);
  EXPECT_THAT(
      Complaint(),
      HasSubstr(
          "shard of rank 1: it belongs to step-001000.E1.G1.A1, not to step-001000.E1.G2.A1"));
}

TEST_F(CoverageTest, NamesAMissingRank) {
  manifest_.mutable_shards()->RemoveLast();
  EXPECT_THAT(Complaint(), HasSubstr("written by a world of 3 ranks, 2 shards are in"));
  *manifest_.add_shards() = manifest_.shards(0);
  EXPECT_THAT(Complaint(), HasSubstr("rank 0 is out of range or there twice"));
}

TEST_F(CoverageTest, NamesAWrongRootCrc) {
  manifest_.mutable_shards(2)->set_block_crcs(0, manifest_.shards(2).block_crcs(0) ^ 1);
  EXPECT_THAT(CheckCoverage(manifest_).message(), HasSubstr("shard of rank 2: its root CRC"));
}

}  // namespace
}  // namespace weft
