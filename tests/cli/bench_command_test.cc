#include "cli/bench_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace weft {
namespace {

// What is refused never starts a worker.
std::string Refused(const std::vector<std::string>& args) {
  ::testing::internal::CaptureStderr();
  EXPECT_NE(BenchCommand(args), 0);
  return ::testing::internal::GetCapturedStderr();
}

TEST(BenchCommandTest, RefusesWhatCannotRunBeforeAnythingStarts) {
  const auto simulate = [](const std::string& layout) {
    return Refused({"step", "--simulate", "1", "--layout", layout});
  };
  EXPECT_THAT(simulate("pp=16"),
              ::testing::HasSubstr("the 8 blocks of the simulated model cannot be cut into 16"));
  EXPECT_THAT(simulate("pp=2,virtual_stages=2"), ::testing::HasSubstr("INTERLEAVED_1F1B"));
  EXPECT_THAT(simulate("dp=4,shard_ranks=3"), ::testing::HasSubstr("groups"));
  EXPECT_THAT(simulate("dp=0"), ::testing::HasSubstr("layout.dp"));
  EXPECT_THAT(Refused({"step", "--simulate", "1", "--steps", "0"}),
              ::testing::HasSubstr("--steps"));
}

}  // namespace
}  // namespace weft
