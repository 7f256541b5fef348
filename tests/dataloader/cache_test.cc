// Shards read through the node's cache: the same bytes whatever its size, whoever dies and whatever becomes of its disk; a second
// run that does not need the shards; chunks that are kept by their next use.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <map>
#include <set>

#include "cli/data_command.h"
#include "cluster/base/hash.h"
#include "dataloader/bpe_trainer.h"
#include "dataloader/cached_shard.h"
#include "dataloader/data_set.h"
#include "dataloader/loader.h"
#include "tests/dataloader/test_images.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

// By (step, slot): a CRC of sample ids and fields.
using Digest = std::map<std::pair<int64_t, int>, uint32_t>;

class CacheTest : public ::testing::Test {
 protected:
  static constexpr int64_t kSteps = 24;  // of 16 samples: more than two epochs of 150

  void SetUp() override {
    options_.seed = 5;
    options_.batch.set_slots(4);
    options_.batch.set_micro_batch_size(4);
    options_.image_size = 12;
    options_.context_length = 16;
    options_.slots = {0, 1, 2, 3};
    options_.end_step = kSteps;
    options_.data.set_vocabulary(Path("vocab.txt"));
    options_.data.set_loader_threads(2);
    options_.data.mutable_order()->set_lanes(4);
    options_.data.mutable_order()->set_chunk(6);
    options_.data.mutable_order()->set_window(3);
    const auto vocabulary = BpeTrainer(BpeStyle::kClip).Train(BpeFixedEntries(BpeStyle::kClip));
    ASSERT_TRUE(vocabulary.ok());
    WriteBytes(Path("vocab.txt"), *vocabulary);
    auto samples = MakeSamples(0, 80, 20);
    samples[11].second["jpg"] = "no picture";
    WriteShard(Path("a.tar"), samples);
    WriteShard(Path("b.tar"), MakeSamples(80, 70, 24));
    options_.data.add_train_shards(Path("a.tar"));
    options_.data.add_train_shards(Path("b.tar"));
    Read(options_, &straight_);
    ASSERT_EQ(straight_.size(), size_t{kSteps * 4});
  }

  static void Read(const LoaderOptions& options, Digest* digest) {
    auto loader = Loader::Open(options);
    ASSERT_TRUE(loader.ok()) << loader.status();
    for (int64_t i = 0; i < (options.end_step - options.first_step) * 4; ++i) {
      auto batch = (*loader)->Next();
      ASSERT_TRUE(batch.ok()) << batch.status();
      uint32_t crc = Crc32c(batch->sample_ids.data(), batch->sample_ids.size() * 8);
      for (const Field& field : batch->fields)
        crc = Crc32c(field.bytes.data(), field.bytes.size(), crc);
      (*digest)[{batch->step, batch->slot}] = crc;
    }
  }

  LoaderOptions Cached(int64_t bytes = 10 << 20) const {
    LoaderOptions options = options_;
    options.data.set_cache_dir(Path("cache"));
    options.data.set_cache_bytes(bytes);
    return options;
  }

  void ExpectSame(const LoaderOptions& options) const {
    Digest digest;
    Read(options, &digest);
    EXPECT_EQ(digest, straight_);
  }

  // Indexes with checksums beside the shards.
  void WriteIndexes() const {
    for (const char* name : {"a.tar", "b.tar"}) {
      const auto file = ShardFile::Open(Path(name));
      ASSERT_TRUE(file.ok());
      const auto index = ShardIndex::BuildWithChecksums(**file);
      ASSERT_TRUE(index.ok());
      ASSERT_TRUE(index->WriteBeside(**file).ok());
    }
  }

  // Overwrites the shards' bytes with zeros, but leaves size and time: nobody sees it who does not read them.
  void WipeShards() const {
    for (const char* name : {"a.tar", "b.tar"}) {
      const std::string path = Path(name);
      const auto time = std::filesystem::last_write_time(path);
      WriteBytes(path, std::string(std::filesystem::file_size(path), '\0'));
      std::filesystem::last_write_time(path, time);
    }
  }

  std::vector<std::string> Entries() const {
    std::vector<std::string> entries;
    for (const auto& file : std::filesystem::directory_iterator(Path("cache"))) {
      if (file.path().extension() == ".chunk") entries.push_back(file.path().string());
    }
    return entries;
  }

  std::string Path(const std::string& name) const { return dir_.path() + "/" + name; }

  testing::TempDir dir_;
  LoaderOptions options_;
  Digest straight_;
};

TEST_F(CacheTest, GivesTheSameBytesAtAnySize) {
  for (const int64_t bytes : {1, 20 << 10, 80 << 10, 200 << 10, 10 << 20}) {
    const LoaderOptions options = Cached(bytes);
    ExpectSame(options);
    ExpectSame(options);
    uint64_t held = 0;
    for (const std::string& entry : Entries()) held += std::filesystem::file_size(entry);
    EXPECT_LE(held, static_cast<uint64_t>(bytes));
    if (bytes > 1000) {
      EXPECT_GT(held, static_cast<uint64_t>(std::min<int64_t>(bytes, 100000)) / 4);
    }
    std::filesystem::remove_all(Path("cache"));
  }
}

TEST_F(CacheTest, ASecondRunDoesNotReadTheShards) {
  WriteIndexes();
  ExpectSame(Cached());
  // 80 / 6 and 70 / 6 chunks, the last of each shorter.
  EXPECT_EQ(Entries().size(), 14U + 12U);
  WipeShards();
  ExpectSame(Cached());
  // Nor does another cut of the run, in the middle.
  LoaderOptions later = Cached();
  later.first_step = 7;
  Digest digest = straight_;
  Read(later, &digest);
  EXPECT_EQ(digest, straight_);
}

TEST_F(CacheTest, AShardThatChangedIsAnotherOne) {
  WriteIndexes();
  ExpectSame(Cached());
  // The same names, sizes and places, other pictures; the index beside it is of the old file and its time.
  auto samples = MakeSamples(0, 80, 20);
  samples[11].second["jpg"] = "no picture";
  std::reverse(samples[3].second["txt"].begin(), samples[3].second["txt"].end());
  WriteShard(Path("a.tar"), samples);
  straight_.clear();
  Read(options_, &straight_);
  ExpectSame(Cached());
}

TEST_F(CacheTest, KeysFollowTheContentsWhereTheyAreKnown) {
  const auto keys = [this](const std::string& name) {
    const auto file = ShardFile::Open(Path(name));
    std::optional<ShardIndex> index = ShardIndex::MapBeside(**file);
    if (!index) index = std::move(*ShardIndex::Build(**file));
    const int64_t starts[] = {0, 20, 40, 80};
    const auto shard = CachedShard::Make(**file, *index, starts, nullptr);
    std::set<std::string> all;
    for (uint32_t chunk = 0; chunk < 3; ++chunk) all.insert(shard->KeyOf(chunk));
    EXPECT_EQ(all.size(), 3U);
    return all;
  };
  const std::set<std::string> by_path = keys("a.tar");
  std::filesystem::copy_file(Path("a.tar"), Path("c.tar"));
  std::filesystem::last_write_time(Path("c.tar"), std::filesystem::last_write_time(Path("a.tar")));
  EXPECT_NE(keys("c.tar"), by_path);
  WriteIndexes();
  const std::set<std::string> by_contents = keys("a.tar");
  EXPECT_NE(by_contents, by_path);
  // A copy with another time and its own index.
  std::filesystem::rename(Path("b.tar"), Path("d.tar"));
  std::filesystem::rename(Path("a.tar"), Path("b.tar"));
  std::filesystem::last_write_time(Path("b.tar"), std::filesystem::file_time_type::clock::now());
  std::filesystem::copy_file(Path("d.tar"), Path("a.tar"));
  WriteIndexes();
  EXPECT_EQ(keys("b.tar"), by_contents);
}

TEST_F(CacheTest, ChunksOfTwoSizesLieInOneCache) {
  LoaderOptions options = options_;
  options.data.mutable_order()->set_chunk(5);
  Digest plain;
  Read(options, &plain);
  LoaderOptions cached = Cached();
  cached.data.mutable_order()->set_chunk(5);
  Digest digest;
  Read(cached, &digest);
  Read(Cached(), &digest);  // chunks of two sizes in one cache
  EXPECT_EQ(digest, straight_);
  digest.clear();
  Read(cached, &digest);
  EXPECT_EQ(digest, plain);
}

// A mix, balance, shards that are inflated; samples that are left out, batches of one kind.
TEST_F(CacheTest, ServesAnyOrderOfAnyShards) {
  LoaderOptions mixed = options_;
  mixed.data.clear_train_shards();
  for (const char* name : {"a", "b", "z"}) {
    DataSetRecipe* const set = mixed.data.add_sets();
    set->set_name(name);
    set->add_shards(Path(std::string(name) + (*name == 'z' ? ".tar.gz" : ".tar")));
  }
  ASSERT_EQ(std::system(("gzip -c " + Path("b.tar") + " > " + Path("z.tar.gz")).c_str()), 0);
  mixed.data.mutable_balance()->set_group(2);
  LoaderOptions excluding = options_;
  excluding.data.clear_train_shards();
  excluding.data.add_train_shards(Path("m.manifest"));
  excluding.data.mutable_batcher()->set_group(BatcherRecipe::PICTURES);
  excluding.data.mutable_batcher()->set_bucket(64);
  ASSERT_EQ(DataCommand({"index", Path("a.tar"), Path("b.tar"), "--out", Path("m.manifest")}), 0);
  WriteBytes(Path("keys"), "s000000\ns000007\ns000008\ns000020\ns000079\ns000100\n");
  ASSERT_EQ(DataCommand({"exclude", Path("m.manifest"), "--keys", Path("keys")}), 0);
  for (const LoaderOptions& options : {mixed, excluding}) {
    Digest plain;
    Read(options, &plain);
    LoaderOptions cached = options;
    cached.data.set_cache_dir(Path("cache"));
    for (const int64_t bytes : {60 << 10, 10 << 20, 10 << 20}) {
      cached.data.set_cache_bytes(bytes);
      Digest digest;
      Read(cached, &digest);
      EXPECT_EQ(digest, plain);
    }
    EXPECT_GT(Entries().size(), 20U);
  }
  // The second of these runs left nothing to be read from the shards.
  excluding.data.set_cache_dir(Path("cache"));
  Digest before;
  Read(excluding, &before);
  WipeShards();
  Digest after;
  Read(excluding, &after);
  EXPECT_EQ(after, before);
}

// Rows that are packed of several samples.
TEST_F(CacheTest, ServesTheMembersOfRows) {
  auto samples = MakeSamples(0, 150, 20);
  for (auto& [key, members] : samples) {
    members["json"] = R"({"conversations": [{"from": "human", "value": "<image>\nIt?"},)"
                      R"({"from": "gpt", "value": "A )" +
                      key + "\"}]}";
  }
  WriteShard(Path("a.tar"), samples);
  WriteShard(Path("b.tar"), MakeSamples(0, 1, 20));
  const auto vocabulary = BpeTrainer(BpeStyle::kLlava).Train(BpeFixedEntries(BpeStyle::kLlava));
  ASSERT_TRUE(vocabulary.ok());
  WriteBytes(Path("vocab.txt"), *vocabulary);
  LoaderOptions rows = options_;
  rows.family = SampleFamily::kConversation;
  rows.patches = 4;
  rows.pictures = 3;
  rows.context_length = 160;
  rows.data.mutable_conversation()->set_version(ConversationRecipe::V1);
  rows.data.mutable_conversation()->set_system("");
  rows.data.mutable_conversation()->set_pack(true);
  rows.data.clear_train_shards();
  rows.data.add_train_shards(Path("a.tar"));
  WriteIndexes();
  Digest plain;
  Read(rows, &plain);
  rows.data.set_cache_dir(Path("cache"));
  Digest digest;
  Read(rows, &digest);
  EXPECT_EQ(digest, plain);
  EXPECT_EQ(Entries().size(), 25U);  // of 6 samples
  WipeShards();
  digest.clear();
  Read(rows, &digest);
  EXPECT_EQ(digest, plain);
}

TEST_F(CacheTest, WhatBecomesOfTheDiskEndsNoRun) {
  // The folder goes, chunk by chunk and whole, while the run reads.
  LoaderOptions options = Cached();
  for (const bool whole : {false, true}) {
    auto loader = Loader::Open(options);
    ASSERT_TRUE(loader.ok()) << loader.status();
    for (int64_t i = 0; i < kSteps * 4; ++i) {
      if (i == 30 && whole) std::filesystem::remove_all(Path("cache"));
      if (i % 10 == 9 && !whole) {
        for (const std::string& entry : Entries()) std::filesystem::remove(entry);
      }
      auto batch = (*loader)->Next();
      ASSERT_TRUE(batch.ok()) << batch.status();
      uint32_t crc = Crc32c(batch->sample_ids.data(), batch->sample_ids.size() * 8);
      for (const Field& field : batch->fields)
        crc = Crc32c(field.bytes.data(), field.bytes.size(), crc);
      EXPECT_EQ(crc, (straight_[{batch->step, batch->slot}]));
    }
  }
  // Damaged chunks are fetched again.
  ExpectSame(options);
  int damaged = 0;
  for (const std::string& entry : Entries()) {
    std::string bytes = ReadBytes(entry);
    for (size_t i = 500; i < bytes.size(); i += 50) bytes[i] ^= 1;
    WriteBytes(entry, ++damaged % 2 == 0 ? bytes : bytes.substr(0, bytes.size() / 2));
  }
  EXPECT_GT(damaged, 20);
  ExpectSame(options);
  // There is no folder and cannot be one.
  WriteBytes(Path("file"), "x");
  options.data.set_cache_dir(Path("file/cache"));
  ExpectSame(options);
}

TEST_F(CacheTest, AFullDiskIsAFullCache) {
  // What a process may write to a file stands for what fits onto the disk.
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {2000, 2000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    ExpectSame(Cached());
    ::_exit(HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  for (const auto& file : std::filesystem::directory_iterator(Path("cache")))
    EXPECT_LE(file.file_size(), 2000U) << file.path();
}

TEST_F(CacheTest, RefusesAFolderThatIsNotItsOwn) {
  LoaderOptions options = Cached();
  options.data.set_cache_dir(dir_.path());
  const Status status = Loader::Open(options).status();
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(status.message().find("data.cache_dir"), std::string::npos) << status;
  EXPECT_NE(status.message().find("a folder of its own"), std::string::npos) << status;
}

// Readers of a node come and are killed at any moment, also while they put chunks into a cache that is too small for all.
TEST_F(CacheTest, KilledReadersLeaveNothingWrong) {
  const LoaderOptions options = Cached(50 << 10);
  for (int round = 0; round < 30; ++round) {
    const pid_t child = ::fork();
    if (child == 0) {
      Digest digest;
      Read(options, &digest);
      ::_exit(digest == straight_ ? 0 : 1);
    }
    ::usleep(static_cast<useconds_t>(Mix64(static_cast<uint64_t>(round)) % 60000));
    if (round % 5 != 0) ::kill(child, SIGKILL);
    if (round % 7 == 0) ExpectSame(options);
    if (round % 3 == 0) {
      for (const std::string& entry : Entries()) std::filesystem::remove(entry);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
  }
  ExpectSame(options);
  uint64_t held = 0;
  for (const auto& file : std::filesystem::directory_iterator(Path("cache")))
    held += file.file_size();
  EXPECT_LE(held, static_cast<uint64_t>(options.data.cache_bytes()) + (4 << 10));
}

// Two runs with limits of their own in one folder: the one that came last says how much it holds.
TEST_F(CacheTest, OneFolderHasOneLimit) {
  ExpectSame(Cached(10 << 20));
  const size_t all = Entries().size();
  ExpectSame(Cached(30 << 10));
  uint64_t held = 0;
  for (const std::string& entry : Entries()) held += std::filesystem::file_size(entry);
  EXPECT_LE(held, 30U << 10);
  EXPECT_LT(Entries().size(), all);
  ExpectSame(Cached(10 << 20));
  EXPECT_EQ(Entries().size(), all);
}

}  // namespace
}  // namespace weft
