// `weft train` with data.cache_dir: the losses of a run without it, in threads and in a process of the loader's own, while workers
// are killed; and a run that reads what others left there.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/integration/tiny_run.h"

namespace weft::testing {
namespace {

TEST(DataCache, RunsHaveTheSameLossesThroughIt) {
  TinyRun tiny;
  ASSERT_EQ(tiny.Train("plain").exit_code, 0);
  const auto expected = tiny.LossBits("plain");
  ASSERT_EQ(expected.size(), 24u);
  const std::vector<std::string> cached = {"--set", "data.cache_dir=" + tiny.Path("cache"),
                                           "--set", "data.cache_bytes=67108864",
                                           "--set", "eval.retrieval=false"};
  const std::vector<std::vector<std::string>> extras = {
      {"--set", "layout.dp=2", "--inject", "kill:rank=1,step=5"},
      {"--loader", "process", "--inject", "kill:rank=0,step=9"}};
  for (size_t i = 0; i < extras.size(); ++i) {
    std::vector<std::string> args = cached;
    args.insert(args.end(), extras[i].begin(), extras[i].end());
    const std::string run = "cached-" + std::to_string(i);
    const ProgramResult result = tiny.Train(run, args);
    ASSERT_EQ(result.exit_code, 0) << result.output;
    EXPECT_EQ(tiny.LossBits(run), expected) << run;
  }
  int64_t chunks = 0;
  for (const auto& file : std::filesystem::directory_iterator(tiny.Path("cache")))
    chunks += file.path().extension() == ".chunk" ? 1 : 0;
  EXPECT_GT(chunks, 0);
}

TEST(DataCache, AFolderWithOtherFilesEndsARunBeforeItBegins) {
  TinyRun tiny;
  const ProgramResult result =
      tiny.Train("refused", {"--set", "data.cache_dir=" + tiny.directory()});
  EXPECT_NE(result.exit_code, 0);
  EXPECT_NE(result.output.find("give the cache a folder of its own"), std::string::npos)
      << result.output;
}

}  // namespace
}  // namespace weft::testing
