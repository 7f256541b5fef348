#include "cluster/config/text_positions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cluster/config/recipe.pb.h"

namespace weft {
namespace {

std::vector<std::string> Values(std::string_view text) {
  std::vector<std::string> values;
  for (const TextValue& value : ScanText(text, Recipe::descriptor()).values) {
    values.push_back(value.path + "@" + std::to_string(value.position.line) + ":" +
                     std::to_string(value.position.column));
  }
  return values;
}

using ::testing::ElementsAre;

TEST(ScanText, PathsAndLines) {
  EXPECT_THAT(
      Values("name: \"a\"\nsteps : 3 # steps: 4\noptimizer {\n  lr: 1e-3, eps: 1 }\nseed: 2"),
      ElementsAre("name@1:7", "steps@2:9", "optimizer.lr@4:7", "optimizer.eps@4:18", "seed@5:7"));
}

TEST(ScanText, ListsCountTheirValues) {
  EXPECT_THAT(Values("data: <\n augment { mean: [0.1, -0.2,\n 0.3] mean: 4; std: [] }\n>"),
              ElementsAre("data.augment.mean[0]@2:19", "data.augment.mean[1]@2:25",
                          "data.augment.mean[2]@3:2", "data.augment.mean[3]@3:13"));
  EXPECT_THAT(Values("init_from { checkpoint: \"a\" }\ninit_from { checkpoint: \"b\" }\n"
                     "init_from: [{ checkpoint: 'c' },\n { checkpoint: 'd' parameters: 'x' }]"),
              ElementsAre("init_from[0].checkpoint@1:25", "init_from[1].checkpoint@2:25",
                          "init_from[2].checkpoint@3:27", "init_from[3].checkpoint@4:16",
                          "init_from[3].parameters@4:32"));
}

TEST(ScanText, PiecesOfAStringAreOneValue) {
  EXPECT_THAT(Values("trainable: 'a' 'b' trainable: ['c' \"d\", 'e'] name: 'x'\n 'y' seed: 1"),
              ElementsAre("trainable[0]@1:12", "trainable[1]@1:32", "trainable[2]@1:41",
                          "name@1:52", "seed@2:12"));
}

TEST(ScanText, SaysWhereItStopped) {
  const std::string text = "optimizer {\n  lr: 1\n  epz: 2\n}";
  const TextScan scan = ScanText(text, Recipe::descriptor(), {3, 6});
  EXPECT_EQ(scan.prefix, "optimizer.");
  EXPECT_EQ(scan.field_name, "epz");
  EXPECT_EQ(scan.field_position.line, 3);
  EXPECT_EQ(scan.field_position.column, 3);
  EXPECT_TRUE(scan.value_open);
  EXPECT_EQ(scan.message, OptimizerRecipe::descriptor());
  EXPECT_EQ(scan.field, nullptr);
}

}  // namespace
}  // namespace weft
