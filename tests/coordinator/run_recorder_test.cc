#include "coordinator/run_recorder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/temp_dir.h"

namespace weft {
namespace {

using nlohmann::json;

class RunRecorderTest : public ::testing::Test {
 protected:
  std::unique_ptr<RunRecorder> Open(bool fp64 = false) {
    auto recorder = RunRecorder::Open(PosixFileSystem(), {.run_dir = dir_.path(), .fp64 = fp64});
    EXPECT_TRUE(recorder.ok()) << recorder.status();
    return std::move(*recorder);
  }
  std::vector<std::string> Lines(const std::string& name) {
    std::ifstream in(dir_ / name);
    std::vector<std::string> lines;
    for (std::string line; std::getline(in, line);) lines.push_back(line);
    return lines;
  }
  static control::StepRecord Step(int64_t step, double loss) {
    control::StepRecord record;
    record.set_step(step);
    record.set_loss(loss);
    record.set_samples(8);
    record.set_seconds(0.5);
    control::Metric* metric = record.add_metrics();
    metric->set_name("lr");
    metric->set_value(0.25);
    return record;
  }
  testing::TempDir dir_;
};

TEST_F(RunRecorderTest, AStepIsALineWithTheBitsOfItsLoss) {
  Open()->OnStep({2, 3}, Step(7, 1.0));
  const json line = json::parse(Lines("steps.jsonl").at(0));
  EXPECT_EQ(line.at("epoch"), 2);
  EXPECT_EQ(line.at("generation"), 3);
  EXPECT_EQ(line.at("step"), 7);
  EXPECT_EQ(line.at("loss_bits"), "3f800000");
  EXPECT_EQ(line.at("metrics").at("lr"), 0.25);
}

TEST_F(RunRecorderTest, Fp64LossesHaveSixteenDigits) {
  Open(/*fp64=*/true)->OnStep({1, 1}, Step(1, 1.0));
  EXPECT_EQ(json::parse(Lines("steps.jsonl").at(0)).at("loss_bits"), "3ff0000000000000");
}

TEST_F(RunRecorderTest, ALossThatIsNoNumberIsStillJson) {
  Open()->OnStep({1, 1}, Step(1, std::nan("")));
  const json line = json::parse(Lines("steps.jsonl").at(0));
  EXPECT_TRUE(line.at("loss").is_null());
  EXPECT_EQ(line.at("loss_bits").get<std::string>().substr(0, 3), "7fc");
}

TEST_F(RunRecorderTest, AppendsAcrossStartsAndMendsATornLine) {
  Open()->OnStep({1, 1}, Step(1, 1.0));
  std::ofstream(dir_ / "steps.jsonl", std::ios::app) << "{\"step\": 2, \"lo";
  Open()->OnStep({2, 1}, Step(2, 2.0));
  const auto lines = Lines("steps.jsonl");
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(json::parse(lines[2]).at("epoch"), 2);
}

TEST_F(RunRecorderTest, EventsCarryKindTextAndFields) {
  Open()->OnEvent({1, 4}, "recovered", "rank 1 came back",
                  {{"seconds", 1.5}, {"rank", 1}, {"host", "n5"}});
  const json line = json::parse(Lines("events.jsonl").at(0));
  EXPECT_EQ(line.at("kind"), "recovered");
  EXPECT_EQ(line.at("text"), "rank 1 came back");
  EXPECT_EQ(line.at("seconds"), 1.5);
  EXPECT_EQ(line.at("rank"), 1);
  EXPECT_EQ(line.at("host"), "n5");
  EXPECT_GT(line.at("time"), 1.6e9);
}

TEST_F(RunRecorderTest, TextThatIsNoUtf8DoesNotThrow) {
  Open()->OnEvent({1, 1}, "worker_lost", "bytes \xff\xfe");
  EXPECT_TRUE(json::accept(Lines("events.jsonl").at(0)));
}

TEST_F(RunRecorderTest, TheEvaluationIsOneFile) {
  control::EvalRecord record;
  record.set_step(9);
  record.set_details_json("{\"pairs\": 400}");
  control::Metric* metric = record.add_metrics();
  metric->set_name("image_to_text_r10");
  metric->set_value(0.5);
  Open()->OnEval({1, 1}, record);
  const json eval = json::parse(*PosixFileSystem()->ReadFile(dir_ / "eval.json"));
  EXPECT_EQ(eval.at("step"), 9);
  EXPECT_EQ(eval.at("metrics").at("image_to_text_r10"), 0.5);
  EXPECT_EQ(eval.at("details").at("pairs"), 400);
}

TEST_F(RunRecorderTest, WhatCannotBeWrittenIsCountedAndEndsNothing) {
  auto recorder = Open();
  ASSERT_TRUE(PosixFileSystem()->MakeDirs(dir_ / "eval.json").ok());  // in the way
  recorder->OnEval({1, 1}, {});
  EXPECT_EQ(recorder->num_lost(), 1);
  recorder->OnStep({1, 1}, Step(1, 1.0));
  EXPECT_EQ(recorder->num_lost(), 1);
}

}  // namespace
}  // namespace weft
