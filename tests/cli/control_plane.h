// The control plane as a person meets it: `weft train`, `coordinator`, `agent` and `status` as processes, with real worker
// processes that do no arithmetic (fake_worker.cc) but speak, save and resume for real. Each test has a directory of its own
// with a recipe of 20 steps on two ranks, and leaves no process behind.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cluster/base/clock.h"
#include "tests/support/program.h"
#include "tests/support/temp_dir.h"

namespace weft::testing {

inline constexpr char kControlRecipe[] = R"(
name: "control"
steps: 20
model { clip { embed_dim: 24 image_size: 32 patch_size: 8 vision_width: 64 vision_layers: 1 vision_heads: 1
               context_length: 12 vocab_size: 514 text_width: 64 text_layers: 1 text_heads: 2 } }
batch { slots: 2 micro_batch_size: 2 }
data { train_shards: "train.tar" vocabulary: "vocab.txt" }
optimizer { lr: 1e-3 }
layout { dp: 2 }
run { checkpoint_every: 5 }
)";

class ControlPlane : public ::testing::Test {
 protected:
  void SetUp() override {
    Write("recipe.textproto", kControlRecipe);
    Write("train.tar", std::string(10240, '\0'));
    Write("vocab.txt", "#version: 0.2\n");
    // Through a name in this test's own directory, its workers can be told from others'.
    ASSERT_EQ(::symlink(WEFT_FAKE_WORKER, (dir_ / "fake-worker").c_str()), 0);
    ::unsetenv("WEFT_FAKE_FAULT");
    ::setenv("WEFT_FAKE_STEP_MS", "5", 1);
  }
  void TearDown() override {
    ::unsetenv("WEFT_FAKE_FAULT");
    EXPECT_TRUE(NoWorkersWithin(std::chrono::seconds(2))) << "orphans";
  }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(dir_ / name, std::ios::binary) << text;
  }
  std::vector<std::string> TrainArgs(const std::string& run, std::vector<std::string> extra = {}) {
    std::vector<std::string> args = {WEFT_PROGRAM,        "train", "recipe.textproto",
                                     "--run-dir",         run,     "--worker-program",
                                     dir_ / "fake-worker"};
    args.insert(args.end(), extra.begin(), extra.end());
    return args;
  }
  ProgramResult Train(const std::string& run, std::vector<std::string> extra = {}) {
    return RunProgram(TrainArgs(run, std::move(extra)), dir_.path(), std::chrono::seconds(30));
  }
  ProgramResult Weft(std::vector<std::string> args) {
    args.insert(args.begin(), WEFT_PROGRAM);
    return RunProgram(std::move(args), dir_.path(), std::chrono::seconds(30));
  }
  std::vector<pid_t> Workers(const std::string& rank = "") {
    std::vector<std::string> words = {dir_ / "fake-worker", "--control-fd"};
    if (!rank.empty()) words.push_back("--rank " + rank);
    std::vector<pid_t> found = FindProcesses(words);
    // `weft train` names the worker in its own command line, but no control fd.
    return found;
  }
  bool NoWorkersWithin(std::chrono::seconds timeout) {
    const TimePoint deadline = Clock::now() + timeout;
    while (Clock::now() < deadline) {
      if (Workers().empty()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return Workers().empty();
  }
  std::vector<nlohmann::json> Lines(const std::string& run, const std::string& file) {
    std::ifstream in(dir_ / (run + "/" + file));
    std::vector<nlohmann::json> lines;
    for (std::string line; std::getline(in, line);) {
      lines.push_back(nlohmann::json::parse(line, nullptr, false));
    }
    return lines;
  }
  // step -> loss bits; the last record of a step wins.
  std::map<int64_t, std::string> Losses(const std::string& run) {
    std::map<int64_t, std::string> losses;
    for (const auto& line : Lines(run, "steps.jsonl"))
      losses[line.at("step")] = line.at("loss_bits");
    return losses;
  }
  std::vector<nlohmann::json> Events(const std::string& run, const std::string& kind) {
    std::vector<nlohmann::json> events;
    for (auto& line : Lines(run, "events.jsonl")) {
      if (line.is_object() && line.value("kind", "") == kind) events.push_back(line);
    }
    return events;
  }
  bool WaitForStep(const std::string& run, int64_t step) {
    const TimePoint deadline = Clock::now() + std::chrono::seconds(20);
    while (Clock::now() < deadline) {
      const auto losses = Losses(run);
      if (!losses.empty() && losses.rbegin()->first >= step) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  }
  std::string Uninterrupted() {
    const ProgramResult result = Train("reference");
    EXPECT_EQ(result.exit_code, 0) << result.output;
    return Losses("reference")[20];
  }

  TempDir dir_;
};

}  // namespace weft::testing
