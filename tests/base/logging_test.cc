#include "cluster/base/logging.h"

#include <gtest/gtest.h>

#include "cluster/base/status.h"

namespace weft {
namespace {

TEST(LoggingDeathTest, ChecksPrintBothValues) {
  const int ranks = 3;
  EXPECT_DEATH(WEFT_CHECK_EQ(ranks, 4) << "layout", "ranks == 4 \\(3 against 4\\) layout");
  EXPECT_DEATH(WEFT_CHECK(ranks > 5) << "too few", "ranks > 5 too few");
  EXPECT_DEATH(WEFT_CHECK_OK(Corruption("block 3")), "CORRUPTION: block 3");
}

TEST(LoggingDeathTest, LinesCarryThePrefix) {
  EXPECT_DEATH(
      {
        SetLogPrefix("rank 3");
        WEFT_LOG(FATAL) << "gone";
      },
      "rank 3: gone");
}

TEST(Logging, ChecksEvaluateOnceAndBindAsStatements) {
  int calls = 0;
  const auto next = [&calls] { return ++calls; };
  if (calls == 0)
    WEFT_CHECK(next() == 1) << "in an if without braces";
  else
    ADD_FAILURE() << "the else belongs to the if above";
  WEFT_CHECK_GE(next(), 2);
  EXPECT_EQ(calls, 2);
}

}  // namespace
}  // namespace weft
