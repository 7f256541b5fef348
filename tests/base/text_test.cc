#include "cluster/base/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace weft {
namespace {

using ::testing::ElementsAre;

TEST(NearestName, FindsTyposOnly) {
  const std::vector<std::string> names = {"lr", "beta1", "weight_decay", "clip_norm"};
  EXPECT_EQ(NearestName("weight_dcay", names), "weight_decay");
  EXPECT_EQ(NearestName("weightdecay", names), "weight_decay");
  EXPECT_EQ(NearestName("beta3", names), "beta1");
  EXPECT_EQ(NearestName("l", names), "");
  EXPECT_EQ(NearestName("zzzzzz", names), "");
  EXPECT_EQ(NearestName("lr", {}), "");
}

TEST(GlobMatch, StarsAndQuestionMarks) {
  EXPECT_TRUE(GlobMatch("visual.*", "visual.proj"));
  EXPECT_TRUE(GlobMatch("visual.*", "visual.transformer.resblocks.0.ln_1.weight"));
  EXPECT_FALSE(GlobMatch("visual.*", "transformer.visual.proj"));
  EXPECT_TRUE(GlobMatch("*.resblocks.?.ln_*", "a.resblocks.3.ln_1.bias"));
  EXPECT_FALSE(GlobMatch("*.resblocks.?.ln_*", "a.resblocks.13.ln_1.bias"));
  EXPECT_TRUE(GlobMatch("*", ""));
  EXPECT_TRUE(GlobMatch("", ""));
  EXPECT_FALSE(GlobMatch("", "a"));
  EXPECT_FALSE(GlobMatch("a?", "a"));
  EXPECT_TRUE(GlobMatch("a**b", "ab"));
}

TEST(GlobMatch, ManyStarsStayFast) {
  const std::string text(5000, 'a');
  EXPECT_FALSE(GlobMatch("a*a*a*a*a*a*a*a*b", text));
}

TEST(Split, KeepsEmptyParts) {
  EXPECT_THAT(Split("a;b", ';'), ElementsAre("a", "b"));
  EXPECT_THAT(Split(";a;", ';'), ElementsAre("", "a", ""));
  EXPECT_THAT(Split("", ';'), ElementsAre(""));
  EXPECT_EQ(Join({"a", "b", "c"}, ", "), "a, b, c");
  EXPECT_EQ(Join({}, ", "), "");
}

TEST(Human, BytesAndSeconds) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(1023), "1023 B");
  EXPECT_EQ(HumanBytes(1536), "1.5 KiB");
  EXPECT_EQ(HumanBytes(200.0 * 1024 * 1024), "200 MiB");
  EXPECT_EQ(HumanSeconds(12.34), "12.3s");
  EXPECT_EQ(HumanSeconds(200), "3m 20s");
  EXPECT_EQ(HumanSeconds(3599.6), "1h 00m");
  EXPECT_EQ(HumanSeconds(3723), "1h 02m");
}

TEST(ExpandBraces, RangesOfNumbers) {
  EXPECT_THAT(ExpandBraces("a-{000..002}.tar"), ElementsAre("a-000.tar", "a-001.tar", "a-002.tar"));
  EXPECT_THAT(ExpandBraces("{8..11}"), ElementsAre("8", "9", "10", "11"));
  EXPECT_THAT(ExpandBraces("{08..10}"), ElementsAre("08", "09", "10"));
  EXPECT_THAT(ExpandBraces("p{0..1}/s{0..1}"), ElementsAre("p0/s0", "p0/s1", "p1/s0", "p1/s1"));
}

TEST(ExpandBraces, LeavesWhatIsNoRange) {
  for (const char* text : {"plain.tar", "", "a{b}c", "{1..}", "{..2}", "{1..x}", "{1..2", "{-1..2}",
                           "{5..2}", "{1...2}", "{0000000000..1}"}) {
    EXPECT_THAT(ExpandBraces(text), ElementsAre(text));
  }
  EXPECT_THAT(ExpandBraces("{a}{0..1}"), ElementsAre("{a}0", "{a}1"));
}

TEST(ExpandBraces, RefusesToFillTheMemory) {
  for (const char* text : {"{0..999999999}", "{0..99999}{0..99999}{0..99999}"}) {
    EXPECT_THAT(ExpandBraces(text), ElementsAre(text));
  }
}

}  // namespace
}  // namespace weft
