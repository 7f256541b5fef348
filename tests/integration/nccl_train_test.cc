// `weft train` over NCCL: workers with the doubles of NCCL and CUDA (weft-worker-double), a process a rank.
#include <gtest/gtest.h>

#include <bit>
#include <chrono>
#include <filesystem>
#include <fstream>

#include "tests/integration/tiny_run.h"

namespace weft::testing {
namespace {

const std::vector<std::string> kNccl = {"--worker-program",
                                        WEFT_WORKER_DOUBLE,
                                        "--set",
                                        "steps=8",
                                        "--set",
                                        "layout.backend=NCCL",
                                        "--set",
                                        "layout.device=CPU"};

std::vector<std::string> With(std::vector<std::string> args, const std::vector<std::string>& more) {
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(NcclTrain, LossesAreThoseOfTcpAlsoAfterAKill) {
  TinyRun tiny;
  const ProgramResult tcp = tiny.Train("tcp", {"--set", "steps=8"});
  ASSERT_EQ(tcp.exit_code, 0) << tcp.output;
  const auto expected = tiny.LossBits("tcp");
  ASSERT_EQ(expected.size(), 8u);

  const ProgramResult nccl = tiny.Train("nccl", kNccl);
  ASSERT_EQ(nccl.exit_code, 0) << nccl.output;
  EXPECT_NE(nccl.output.find("2 ranks on CPUs over NCCL"), std::string::npos) << nccl.output;
  EXPECT_EQ(tiny.LossBits("nccl"), expected);

  const ProgramResult killed =
      tiny.Train("killed", With(kNccl, {"--set", "layout.pp=2", "--set", "layout.zero_stage=2",
                                        "--inject", "kill:rank=2,step=7"}));
  ASSERT_EQ(killed.exit_code, 0) << killed.output;
  EXPECT_EQ(tiny.LossBits("killed"), expected);
  EXPECT_NE(ReadFile(tiny.Path("killed/events.jsonl")).find("recovered"), std::string::npos);
}

double AsLoss(const std::string& bits) {
  return std::bit_cast<double>(std::stoull(bits, nullptr, 16));
}

// The whole worker on doubles of GPUs: batches, steps, saves and resume, evaluation.
TEST(NcclTrain, OnDoublesOfGpusLossesAreTheSameForEveryBackendAndAfterAKill) {
  const std::vector<std::string> gpu = {"--worker-program",
                                        WEFT_WORKER_DOUBLE,
                                        "--set",
                                        "steps=8",
                                        "--set",
                                        "precision=FP64",
                                        "--set",
                                        "layout.device=CUDA"};
  TinyRun tiny;
  const ProgramResult nccl = tiny.Train("nccl", With(gpu, {"--set", "layout.backend=NCCL"}));
  ASSERT_EQ(nccl.exit_code, 0) << nccl.output;
  EXPECT_NE(nccl.output.find("2 ranks on 2 GPUs"), std::string::npos) << nccl.output;
  const auto expected = tiny.LossBits("nccl");
  ASSERT_EQ(expected.size(), 8u);

  const ProgramResult staged =
      tiny.Train("staged", With(gpu, {"--set", "layout.backend=TCP", "--set", "layout.zero_stage=3",
                                      "--inject", "kill:rank=1,step=7"}));
  ASSERT_EQ(staged.exit_code, 0) << staged.output;
  EXPECT_EQ(tiny.LossBits("staged"), expected);
  EXPECT_NE(ReadFile(tiny.Path("staged/events.jsonl")).find("recovered"), std::string::npos);

  const ProgramResult cpu = tiny.Train("cpu", {"--set", "steps=8", "--set", "precision=FP64"});
  ASSERT_EQ(cpu.exit_code, 0) << cpu.output;
  for (const auto& [step, bits] : tiny.LossBits("cpu"))
    EXPECT_NEAR(AsLoss(bits), AsLoss(expected.at(step)), 1e-9) << "step " << step;
}

TEST(NcclTrain, AWorkerWithoutNcclIsRefusedWithWhatToDo) {
  TinyRun tiny;
  const ProgramResult result = tiny.Train("run", {"--set", "layout.backend=NCCL"});
  EXPECT_NE(result.exit_code, 0);
  EXPECT_NE(result.output.find("layout.backend is NCCL, but rank 0"), std::string::npos)
      << result.output;
  EXPECT_NE(result.output.find("layout.backend to TCP"), std::string::npos) << result.output;
}

}  // namespace
}  // namespace weft::testing
