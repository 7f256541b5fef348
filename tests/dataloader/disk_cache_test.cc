// The cache on local disk: what it gives is what was put in, it removes only its own, and what is needed latest.
#include "dataloader/disk_cache.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "cluster/base/hash.h"
#include "tests/dataloader/test_images.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

constexpr uint64_t kHead = 88;

std::string KeyOf(int i) {
  return DiskCache::Key("s3://bucket/a.tar", "etag", 10 * i, 10 * i + 10);
}
std::string BytesOf(int i) {
  return std::string(1000, static_cast<char>('a' + i % 26)) + std::to_string(i);
}

class DiskCacheTest : public ::testing::Test {
 protected:
  // Room for `entries` entries.
  std::unique_ptr<DiskCache> Open(int entries) {
    auto cache = DiskCache::Open(Folder(), static_cast<uint64_t>(entries) * (kHead + 1010),
                                 [this] { return now_; });
    EXPECT_TRUE(cache.ok()) << cache.status();
    return cache.ok() ? std::move(*cache) : nullptr;
  }
  std::string Folder() const { return dir_.path() + "/cache"; }
  std::string File(int i) const { return Folder() + "/" + KeyOf(i) + ".chunk"; }
  static bool Put(const DiskCache& cache, int i, Duration next_use) {
    const auto kept = cache.Put(KeyOf(i), BytesOf(i), next_use);
    EXPECT_TRUE(kept.ok()) << kept.status();
    return kept.ok() && *kept;
  }
  static bool Has(const DiskCache& cache, int i, Duration next_use = minutes(5)) {
    const auto bytes = cache.Get(KeyOf(i), next_use);
    EXPECT_TRUE(bytes.ok()) << bytes.status();
    if (!bytes.ok() || !bytes->has_value()) return false;
    EXPECT_EQ(**bytes, BytesOf(i));
    return true;
  }

  testing::TempDir dir_;
  WallClock::time_point now_ = WallClock::now();
};

TEST_F(DiskCacheTest, GivesWhatWasPutInAlsoToAnotherProcess) {
  const auto cache = Open(10);
  EXPECT_FALSE(Has(*cache, 1));
  EXPECT_TRUE(Put(*cache, 1, seconds(1)));
  EXPECT_TRUE(Has(*cache, 1));
  EXPECT_TRUE(Has(*Open(10), 1));
  EXPECT_NE(DiskCache::Key("a", "b", 0, 1), DiskCache::Key("a", "c", 0, 1));
  EXPECT_NE(DiskCache::Key("a", "b", 0, 1), DiskCache::Key("ab", "", 0, 1));
  struct stat st = {};
  ASSERT_EQ(::stat(File(1).c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600U);
  ASSERT_EQ(::stat(Folder().c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0700U);
}

TEST_F(DiskCacheTest, DamagedEntriesAreNotThere) {
  const auto cache = Open(10);
  ASSERT_TRUE(Put(*cache, 1, seconds(1)));
  const std::string whole = ReadBytes(File(1));
  std::string broken = whole;
  broken[500] ^= 1;
  for (const std::string& bytes :
       {broken, whole.substr(0, 700), whole.substr(0, 20), std::string()}) {
    WriteBytes(File(1), bytes);
    EXPECT_FALSE(Has(*cache, 1));
  }
  WriteBytes(File(2), whole);  // another key's bytes
  EXPECT_FALSE(Has(*cache, 2));
  EXPECT_TRUE(Put(*cache, 1, seconds(1)));
  EXPECT_TRUE(Has(*cache, 1));
}

TEST_F(DiskCacheTest, NeedsAFolderOfItsOwn) {
  std::filesystem::create_directories(Folder());
  WriteBytes(Folder() + "/train-000000.tar", "the only copy");
  const auto cache = DiskCache::Open(Folder(), 1 << 20);
  EXPECT_EQ(cache.status().code(), StatusCode::kFailedPrecondition) << cache.status();
  EXPECT_EQ(ReadBytes(Folder() + "/train-000000.tar"), "the only copy");
}

TEST_F(DiskCacheTest, WhatIsNeededLatestGoesFirst) {
  const auto cache = Open(3);
  EXPECT_TRUE(Put(*cache, 1, minutes(1)));
  EXPECT_TRUE(Put(*cache, 2, minutes(9)));
  EXPECT_TRUE(Put(*cache, 3, minutes(3)));
  EXPECT_TRUE(Put(*cache, 4, minutes(2)));
  EXPECT_FALSE(Has(*cache, 2));
  EXPECT_TRUE(Has(*cache, 3, minutes(3)));
  // Needed later than all that is there: not taken in.
  EXPECT_FALSE(Put(*cache, 5, minutes(30)));
  EXPECT_EQ(cache->Count().entries, 3);
  // A use moves an entry back.
  EXPECT_TRUE(Has(*cache, 1, minutes(40)));
  EXPECT_TRUE(Put(*cache, 5, minutes(30)));
  EXPECT_FALSE(Has(*cache, 1));
  EXPECT_TRUE(Has(*cache, 3));
}

TEST_F(DiskCacheTest, WhatRunsThatAreGoneLeftGoesBeforeAll) {
  const auto cache = Open(2);
  EXPECT_TRUE(Put(*cache, 1, minutes(1)));
  now_ += minutes(70);
  EXPECT_TRUE(Put(*cache, 2, minutes(50)));
  EXPECT_TRUE(Put(*cache, 3, minutes(55)));
  EXPECT_FALSE(Has(*cache, 1));
  EXPECT_TRUE(Has(*cache, 2, minutes(50)));
}

TEST_F(DiskCacheTest, RemovesNothingThatItDidNotWrite) {
  const auto cache = Open(2);
  EXPECT_TRUE(Put(*cache, 1, minutes(1)));
  WriteBytes(File(7), std::string(1000, 'x'));
  WriteBytes(Folder() + "/shard.tar", std::string(5000, 'y'));
  const auto far = std::filesystem::file_time_type::clock::now() + std::chrono::hours(5);
  std::filesystem::last_write_time(File(7), far);
  for (int i = 10; i < 20; ++i) Put(*cache, i, seconds(30 - i));
  EXPECT_EQ(ReadBytes(File(7)), std::string(1000, 'x'));
  EXPECT_EQ(ReadBytes(Folder() + "/shard.tar").size(), 5000U);
  EXPECT_TRUE(Has(*cache, 19));
}

// Without its account, as after a fall of the machine, the folder is counted.
TEST_F(DiskCacheTest, CountsAnewWithoutAnAccount) {
  const auto cache = Open(3);
  for (int i = 1; i <= 3; ++i) EXPECT_TRUE(Put(*cache, i, minutes(i)));
  WriteBytes(Folder() + "/.weft-cache", "");
  EXPECT_TRUE(Put(*cache, 4, seconds(1)));
  EXPECT_FALSE(Has(*cache, 3));
  EXPECT_EQ(cache->Count().entries, 3);
}

// Four processes, one killed and begun again all the time: every entry is whole, and the limit holds.
TEST_F(DiskCacheTest, ProcessesShareIt) {
  const auto cache = Open(20);
  const auto work = [&](int worker) {
    for (uint64_t round = 0; round < 400; ++round) {
      const auto i = static_cast<int>(Mix64(round * 7 + static_cast<uint64_t>(worker)) % 40);
      if (!Has(*cache, i)) Put(*cache, i, seconds(Mix64(round) % 600));
    }
    ::_exit(HasFailure() ? 1 : 0);
  };
  std::vector<pid_t> workers;
  for (int worker = 0; worker < 3; ++worker) {
    const pid_t child = ::fork();
    if (child == 0) work(worker);
    workers.push_back(child);
  }
  for (int kill = 0; kill < 20; ++kill) {
    const pid_t child = ::fork();
    if (child == 0) work(100 + kill);
    ::usleep(static_cast<useconds_t>(300 * kill));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }
  for (const pid_t worker : workers) {
    int status = 0;
    ASSERT_EQ(::waitpid(worker, &status, 0), worker);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  int there = 0;
  for (int i = 0; i < 40; ++i) there += Has(*cache, i) ? 1 : 0;
  EXPECT_EQ(there, cache->Count().entries);
  EXPECT_GT(there, 15);
  EXPECT_LE(cache->Count().bytes, 20 * (kHead + 1010));
}

}  // namespace
}  // namespace weft
