#include "cluster/comm/under_way.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace weft {
namespace {

UnderWay Named(const std::string& what, const std::string& waiting_for) {
  auto state = std::make_shared<OpState>();
  state->what = what;
  return {.state = std::move(state), .waiting_for = waiting_for};
}

TEST(UnderWayTest, SaysWhatWaitsForWhom) {
  const std::vector<UnderWay> two = {Named("send x #1", "rank 2"), Named("recv y #3", "")};
  EXPECT_EQ(Describe(two), "send x #1, waiting for rank 2; recv y #3");
  EXPECT_EQ(Describe({}), "");
}

TEST(UnderWayTest, ADeadlineNamesItsOwnWaitOrWhatIsBeforeIt) {
  std::vector<UnderWay> two = {Named("send x #1", "rank 2"), Named("recv y #3", "")};
  const std::shared_ptr<OpState> first = two.front().state;
  const Duration timeout = FromSeconds(2);
  EXPECT_EQ(DescribeDeadline(two, *first, timeout),
            "send x #1: not done after 2.0s, waiting for rank 2");
  Remove(*first, &two);
  EXPECT_EQ(DescribeDeadline(two, *first, timeout),
            "send x #1: not done after 2.0s; still under way before it: recv y #3");
  two.clear();
  EXPECT_EQ(DescribeDeadline(two, *first, timeout), "send x #1: not done after 2.0s");
}

}  // namespace
}  // namespace weft
