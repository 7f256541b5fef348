#include "cluster/agent/fault_injection.h"

#include <gtest/gtest.h>
#include <signal.h>

namespace weft {
namespace {

TEST(FaultInjectionTest, Parses) {
  const auto fault = ParseFaultInjection("kill:rank=1,step=33");
  ASSERT_TRUE(fault.ok()) << fault.status();
  EXPECT_EQ(fault->signal, SIGKILL);
  EXPECT_EQ(fault->rank, 1);
  EXPECT_EQ(fault->step, 33);
  EXPECT_EQ(ParseFaultInjection("stop:step=2,rank=0")->signal, SIGSTOP);
}

TEST(FaultInjectionTest, ShowsTheFormForWhatItCannotRead) {
  for (const char* text : {"", "kill", "kill:", "burn:rank=1,step=2", "kill:rank=1",
                           "kill:rank=x,step=2", "kill:rank=1,step=-2", "kill:rank=1,step=2,x=3"}) {
    const auto fault = ParseFaultInjection(text);
    EXPECT_EQ(fault.status().code(), StatusCode::kInvalidArgument) << text;
    EXPECT_NE(fault.status().message().find("kill:rank=1,step=33"), std::string::npos);
  }
}

TEST(FaultInjectorTest, FiresOnceWhenTheStepIsReached) {
  FaultInjector injector({{SIGKILL, 1, 5}});
  EXPECT_TRUE(injector.OnStep(1, 4).empty());
  EXPECT_EQ(injector.OnStep(1, 5).size(), 1u);
  EXPECT_TRUE(injector.OnStep(1, 5).empty());
}

TEST(FaultInjectorTest, FiresWhenReportsSkipTheStep) {
  FaultInjector injector({{SIGKILL, 1, 5}});
  EXPECT_TRUE(injector.OnStep(1, 4).empty());
  EXPECT_EQ(injector.OnStep(1, 6).size(), 1u);
}

TEST(FaultInjectorTest, NotInLaterGenerationsNorBeyondTheStep) {
  FaultInjector later({{SIGKILL, 1, 5}});
  EXPECT_TRUE(later.OnStep(2, 5).empty());
  FaultInjector resumed({{SIGKILL, 1, 5}});
  EXPECT_TRUE(resumed.OnStep(1, 9).empty());
  EXPECT_TRUE(resumed.OnStep(1, 10).empty());
}

}  // namespace
}  // namespace weft
