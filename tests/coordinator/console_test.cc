#include "coordinator/console.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace weft {
namespace {

control::StepRecord Step(int64_t step) {
  control::StepRecord record;
  record.set_step(step);
  record.set_loss(2.5);
  record.set_samples(64);
  record.set_seconds(0.5);
  record.set_data_wait_s(0.05);
  record.set_peer_wait_s(0.1);
  return record;
}

class ConsoleTest : public ::testing::Test {
 protected:
  ~ConsoleTest() override { std::fclose(file_); }
  std::string Text() {
    std::fflush(file_);
    std::string text(static_cast<size_t>(std::ftell(file_)), '\0');
    std::rewind(file_);
    EXPECT_EQ(std::fread(text.data(), 1, text.size(), file_), text.size());
    return text;
  }
  std::FILE* file_ = std::tmpfile();
  TimePoint now_{};
};

TEST_F(ConsoleTest, TheLineSaysAll) {
  ThroughputWindow window;
  window.Add(Step(100));
  EXPECT_EQ(
      StepLine(100, 120, 2.5, window),
      "step 100/120  loss 2.5000  128 samples/s  waiting: data 10%, peers 20%, checkpoints 0% "
      " ETA 10.0s");
  EXPECT_EQ(StepLine(120, 120, 2.5, window).find("ETA"), std::string::npos);
}

TEST_F(ConsoleTest, WaitingForDataHasAReason) {
  const auto reason = [](double wait_s, double decode_s, double read_s, double core_wait_s) {
    control::StepRecord record = Step(100);
    record.set_data_wait_s(wait_s);
    for (const auto& [name, value] : {std::pair{"data_decode_s", decode_s},
                                      {"data_read_s", read_s},
                                      {"data_core_wait_s", core_wait_s}}) {
      control::Metric* metric = record.add_metrics();
      metric->set_name(name);
      metric->set_value(value);
    }
    ThroughputWindow window;
    window.Add(record);
    return StepLine(100, 120, 2.5, window);
  };
  using ::testing::HasSubstr;
  EXPECT_THAT(reason(0.05, 3, 1, 2), HasSubstr("data 10% (decode), peers"));
  EXPECT_THAT(reason(0.05, 1, 3, 2), HasSubstr("data 10% (read), peers"));
  EXPECT_THAT(reason(0.05, 1, 2, 3), HasSubstr("data 10% (cores), peers"));
  EXPECT_THAT(reason(0.02, 3, 1, 2), HasSubstr("data 4%, peers"));
}

TEST_F(ConsoleTest, TheWindowForgets) {
  ThroughputWindow window;
  control::StepRecord slow = Step(1);
  slow.set_seconds(1000);
  window.Add(slow);
  for (int i = 0; i < 50; ++i) window.Add(Step(i + 2));
  EXPECT_DOUBLE_EQ(window.StepSeconds(), 0.5);
}

TEST_F(ConsoleTest, NothingToDivideIsZero) {
  const ThroughputWindow window;
  EXPECT_EQ(window.SamplesPerSecond(), 0);
  EXPECT_EQ(window.DataWait(), 0);
}

TEST_F(ConsoleTest, PlainLinesComeEveryTenSecondsAndAtTheEnd) {
  Console console(file_, /*live=*/false, 100);
  for (int step = 1; step <= 100; ++step) {
    console.OnStep(now_, Step(step));
    now_ += std::chrono::milliseconds(500);
  }
  const std::string text = Text();
  // Steps 1, 21, 41, 61, 81 and the last.
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 6) << text;
  EXPECT_NE(text.find("step 21/100"), std::string::npos);
  EXPECT_NE(text.find("step 100/100"), std::string::npos);
  EXPECT_EQ(text.find('\r'), std::string::npos);
}

TEST_F(ConsoleTest, ALiveLineIsRenewedAndSentencesStandAboveIt) {
  Console console(file_, /*live=*/true, 100);
  console.OnStep(now_, Step(1));
  console.Say("something happened");
  console.Finish();
  const std::string text = Text();
  const size_t said = text.find("\r\033[Ksomething happened\n");
  ASSERT_NE(said, std::string::npos) << text;
  EXPECT_NE(text.find("step 1/100", said), std::string::npos);
  EXPECT_EQ(text.back(), '\n');
}

}  // namespace
}  // namespace weft
