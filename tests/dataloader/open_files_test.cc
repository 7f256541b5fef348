#include "dataloader/open_files.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "dataloader/data_set.h"
#include "tests/dataloader/test_images.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

int64_t NumDescriptors() {
  int64_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
    ++count;
  return count;
}

TEST(OpenFiles, ClosesTheOneThatWasNotUsedForLongest) {
  const testing::TempDir dir;
  OpenFiles files(2);
  std::vector<std::shared_ptr<OpenFiles::Slot>> slots;
  for (int i = 0; i < 3; ++i) {
    WriteBytes(dir / std::to_string(i), std::string(static_cast<size_t>(10 + i), 'x'));
    const OpenFile file(::open((dir / std::to_string(i)).c_str(), O_RDONLY));
    slots.push_back(
        std::make_shared<OpenFiles::Slot>(dir / std::to_string(i), *IdentityOf("", file.fd())));
  }
  const auto get = [&](size_t i) { return files.Get(slots[i]); };
  const auto first = *get(0);
  EXPECT_NE(*get(1), nullptr);
  EXPECT_EQ(*get(0), first);
  EXPECT_NE(*get(2), nullptr);  // 1 goes
  EXPECT_EQ(*get(0), first);
  EXPECT_NE(*get(1), nullptr);  // 2 goes
  EXPECT_EQ(*get(0), first);
  std::filesystem::remove(dir / "2");
  EXPECT_EQ(get(2).status().code(), StatusCode::kNotFound);
  WriteBytes(dir / "2", "another file");
  EXPECT_EQ(get(2).status().code(), StatusCode::kUnavailable);
}

// Three hundred shards need no three hundred descriptors, and each is still read.
TEST(OpenFiles, ASetOfManyShardsKeepsFewOpen) {
  const testing::TempDir dir;
  const auto samples = MakeSamples(0, 3);
  for (int i = 0; i < 300; ++i)
    WriteShard(dir / ("s-" + std::to_string(1000 + i) + ".tar"), samples);
  const int64_t before = NumDescriptors();
  const auto set = DataSet::Open({dir / "s-{1000..1299}.tar"}, "shards");
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_LE(NumDescriptors(), before + 256 + 2);
  const std::vector<std::string> extensions = {"txt"};
  std::string text;
  for (int64_t id = 0; id < (*set)->num_samples(); ++id) {
    ASSERT_TRUE((*set)->ReadMember(id, extensions, &text).ok());
    EXPECT_EQ(text, samples[static_cast<size_t>(id % 3)].second.at("txt"));
  }
  EXPECT_LE(NumDescriptors(), before + 256 + 2);
}

}  // namespace
}  // namespace weft
