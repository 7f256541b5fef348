// `weft selftest` and `weft bench comm` as a person runs them on a machine without a GPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/support/program.h"
#include "tests/support/temp_dir.h"

namespace weft::testing {
namespace {

using ::testing::HasSubstr;

class Selftest : public ::testing::Test {
 protected:
  ProgramResult Weft(std::vector<std::string> args) {
    args.insert(args.begin(), WEFT_PROGRAM);
    Program program(args, dir_.path());
    return program.Wait(std::chrono::seconds(200));
  }
  nlohmann::json Json(const std::string& name) {
    std::ifstream file(dir_ / name);
    return nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  }
  const TempDir dir_;
};

TEST_F(Selftest, SaysThatThereIsNoGpu) {
  const ProgramResult result = Weft({"selftest", "gpu"});
  if (result.exit_code != 3) GTEST_SKIP() << "this machine has a GPU: " << result.output;
  EXPECT_THAT(result.output, HasSubstr("no CUDA device"));
  EXPECT_THAT(result.output, HasSubstr("weft selftest cpu"));
}

TEST_F(Selftest, RunsEveryStageOnTheCpu) {
  const ProgramResult result =
      Weft({"selftest", "cpu", "--quick", "--work-dir", "work", "--json", "selftest.json"});
  EXPECT_EQ(result.exit_code, 0) << result.output;
  const nlohmann::json report = Json("selftest.json");
  ASSERT_TRUE(report.contains("rows")) << result.output;
  std::set<std::string> stages;
  for (const nlohmann::json& row : report["rows"]) {
    stages.insert(row["stage"]);
    EXPECT_EQ(row["outcome"], "ok") << row.dump();
  }
  EXPECT_EQ(stages, (std::set<std::string>{"bench", "checks", "demo", "parity", "peaks"}));
}

TEST_F(Selftest, AStageThatCannotRunIsARowThatFailed) {
  // Programs without what lies beside them: no worker, no recipes of the build.
  std::filesystem::create_directories(dir_ / "bin");
  std::filesystem::copy(WEFT_PROGRAM, dir_ / "bin/weft");
  std::filesystem::create_directories(dir_ / "recipes");
  std::filesystem::copy(WEFT_SOURCE_DIR "/recipes", dir_ / "recipes",
                        std::filesystem::copy_options::recursive);
  Program program({dir_ / "bin/weft", "selftest", "cpu", "--quick", "--json", "selftest.json"},
                  dir_.path());
  const ProgramResult result = program.Wait(std::chrono::seconds(60));
  EXPECT_EQ(result.exit_code, 1) << result.output;
  EXPECT_THAT(result.output, HasSubstr("weft-worker is not there"));
  const nlohmann::json report = Json("selftest.json");
  ASSERT_TRUE(report.contains("rows"));
  for (const nlohmann::json& row : report["rows"])
    EXPECT_EQ(row["outcome"], "FAILED") << row.dump();
}

TEST_F(Selftest, BenchCommMeasuresEveryOperation) {
  const ProgramResult result =
      Weft({"bench", "comm", "--ranks", "3", "--max-mib", "1", "--json", "comm.json"});
  EXPECT_EQ(result.exit_code, 0) << result.output;
  std::set<std::string> operations;
  const nlohmann::json report = Json("comm.json");
  ASSERT_TRUE(report.contains("rows"));
  for (const nlohmann::json& row : report["rows"]) {
    operations.insert(row["operation"]);
    EXPECT_GT(row["bus_bytes_per_s"], 0) << row.dump();
  }
  EXPECT_EQ(operations.size(), 5U) << result.output;
  EXPECT_THAT(Weft({"bench", "comm", "--backend", "NCCL", "--device", "CUDA"}).output,
              HasSubstr("NCCL needs a GPU for each of 2 ranks"));
}

}  // namespace
}  // namespace weft::testing
