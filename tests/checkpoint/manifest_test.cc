#include "checkpoint/manifest.h"

#include <gtest/gtest.h>

#include "tests/support/checkpoint_world.h"
#include "tests/support/fault_injecting_file_system.h"

namespace weft {
namespace {

const CheckpointName kName = {1000, 1, 2, 1};

TEST(ManifestNameTest, RoundTrip) {
  EXPECT_EQ(ManifestFileName(kName), "MANIFEST-001000.E1.G2.A1");
  EXPECT_EQ(AttemptDirectoryName(kName), "step-001000.E1.G2.A1");
  for (const CheckpointName& name :
       {kName, CheckpointName{12345678, 31, 4, 159}, CheckpointName{}}) {
    EXPECT_EQ(ParseManifestFileName(ManifestFileName(name)), name);
    EXPECT_EQ(ParseAttemptDirectoryName(AttemptDirectoryName(name)), name);
  }
}

TEST(ManifestNameTest, RefusesOtherSpellings) {
  for (const char* text :
       {"MANIFEST-1000.E1.G2.A1", "MANIFEST-001000.E1.G2.A1.tmp", "MANIFEST-001000.E1.G2", "",
        "MANIFEST-001000.E01.G2.A1", "manifest-001000.E1.G2.A1", "MANIFEST-+01000.E1.G2.A1"}) {
    EXPECT_FALSE(ParseManifestFileName(text)) << text;
  }
}

class ManifestTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto manifest = WriteTinyCheckpoint(&fs_, "ckpt", kName, 2);
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    manifest_ = *std::move(manifest);
    ASSERT_TRUE(fs_.SyncDir(".").ok());
  }
  FaultInjectingFileSystem fs_;
  checkpoint::Manifest manifest_;
  const std::string path_ = "ckpt/MANIFEST-001000.E1.G2.A1";
};

TEST_F(ManifestTest, RoundTripThroughAPowerCut) {
  const auto crc = WriteManifest(&fs_, "ckpt", manifest_);
  ASSERT_TRUE(crc.ok()) << crc.status();
  fs_.Crash(CrashMode::kPowerCut);
  const auto back = ReadManifest(&fs_, path_);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->SerializeAsString(), manifest_.SerializeAsString());
  EXPECT_EQ(ManifestCrc(fs_.ReadFile(path_).value()), *crc);
}

TEST_F(ManifestTest, ARunsDirectoryMeansItsLastCheckpoint) {
  EXPECT_EQ(FindManifest(&fs_, "run").status().code(), StatusCode::kNotFound);
  for (const CheckpointName& name : {CheckpointName{20, 1, 1, 2}, CheckpointName{1000, 1, 2, 1},
                                     CheckpointName{1000, 1, 10, 1}, CheckpointName{30, 9, 9, 9}}) {
    const auto manifest = WriteTinyCheckpoint(&fs_, "run/ckpt", name, 2);
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    ASSERT_TRUE(WriteManifest(&fs_, "run/ckpt", *manifest).ok());
  }
  EXPECT_EQ(FindManifest(&fs_, "run").value(), "run/ckpt/MANIFEST-001000.E1.G10.A1");
  EXPECT_EQ(FindManifest(&fs_, "run/ckpt/MANIFEST-000030.E9.G9.A9").value(),
            "run/ckpt/MANIFEST-000030.E9.G9.A9");
}

TEST_F(ManifestTest, NeverOverwrites) {
  ASSERT_TRUE(WriteManifest(&fs_, "ckpt", manifest_).ok());
  const std::string before = fs_.ReadFile(path_).value();
  manifest_.mutable_state()->set_recipe_hash("another");
  EXPECT_EQ(WriteManifest(&fs_, "ckpt", manifest_).status().code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(fs_.ReadFile(path_).value(), before);
  EXPECT_FALSE(fs_.Exists(path_ + ".tmp"));
}

TEST_F(ManifestTest, FindsEveryFlippedBitAndEveryLength) {
  ASSERT_TRUE(WriteManifest(&fs_, "ckpt", manifest_).ok());
  const std::string bytes = fs_.ReadFile(path_).value();
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string damaged = bytes;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    ASSERT_EQ(DecodeManifest(damaged, path_).status().code(), StatusCode::kCorruption) << bit;
  }
  for (size_t size = 0; size < bytes.size(); ++size) {
    ASSERT_EQ(DecodeManifest(bytes.substr(0, size), path_).status().code(), StatusCode::kCorruption)
        << size;
  }
  EXPECT_EQ(DecodeManifest(bytes + "x", path_).status().code(), StatusCode::kCorruption);
}

TEST_F(ManifestTest, RefusesAnotherFormat) {
  manifest_.set_format(99);
  EXPECT_EQ(DecodeManifest(EncodeManifest(manifest_), "m").status().code(),
            StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace weft
