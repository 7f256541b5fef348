#include "coordinator/run_directory.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/config/freeze.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

Recipe MakeRecipe(double lr, int dp) {
  Recipe recipe;
  recipe.set_name("r");
  recipe.set_steps(10);
  recipe.mutable_optimizer()->set_lr(lr);
  recipe.mutable_layout()->set_dp(dp);
  return recipe;
}

class RunDirectoryTest : public ::testing::Test {
 protected:
  StatusOr<std::unique_ptr<RunDirectory>> Open(const Recipe& recipe) {
    return RunDirectory::Open(PosixFileSystem(), dir_ / "run", recipe);
  }
  testing::TempDir dir_;
};

TEST_F(RunDirectoryTest, FreezesTheRecipeAndOpensAgain) {
  { ASSERT_TRUE(Open(MakeRecipe(0.1, 2)).ok()); }
  EXPECT_TRUE(PosixFileSystem()->Exists(dir_ / "run/recipe.textproto"));
  EXPECT_TRUE(Open(MakeRecipe(0.1, 2)).ok());
}

TEST_F(RunDirectoryTest, IsHeldByOneAtATime) {
  const auto first = Open(MakeRecipe(0.1, 2));
  ASSERT_TRUE(first.ok());
  const auto second = Open(MakeRecipe(0.1, 2));
  EXPECT_EQ(second.status().code(), StatusCode::kAlreadyExists);
  EXPECT_NE(second.status().message().find("pid " + std::to_string(::getpid())), std::string::npos)
      << second.status();
}

TEST_F(RunDirectoryTest, AnotherRecipeIsRefusedWithItsDifferences) {
  { ASSERT_TRUE(Open(MakeRecipe(0.1, 2)).ok()); }
  const auto other = Open(MakeRecipe(0.2, 2));
  EXPECT_EQ(other.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(other.status().message().find("optimizer.lr: 0.1 -> 0.2"), std::string::npos)
      << other.status();
  EXPECT_NE(other.status().message().find("--run-dir"), std::string::npos) << other.status();
}

TEST_F(RunDirectoryTest, AnotherLayoutIsTakenOver) {
  { ASSERT_TRUE(Open(MakeRecipe(0.1, 2)).ok()); }
  { ASSERT_TRUE(Open(MakeRecipe(0.1, 4)).ok()); }
  const auto frozen = ReadFrozenRecipe(PosixFileSystem(), dir_ / "run/recipe.textproto");
  ASSERT_TRUE(frozen.ok()) << frozen.status();
  EXPECT_EQ(frozen->layout().dp(), 4);
}

TEST_F(RunDirectoryTest, TheEndpointIsSecretAndReadsBack) {
  const auto directory = Open(MakeRecipe(0.1, 2));
  ASSERT_TRUE(directory.ok());
  const std::string token = NewRunToken();
  EXPECT_EQ(token.size(), 32u);
  EXPECT_NE(token, NewRunToken());
  ASSERT_TRUE((*directory)->WriteEndpoint({"127.0.0.1", 4242}, token).ok());
  struct stat st = {};
  ASSERT_EQ(::stat((dir_ / "run/coord/endpoint").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  const auto where = ReadRunEndpoint(PosixFileSystem(), dir_ / "run");
  ASSERT_TRUE(where.ok()) << where.status();
  EXPECT_EQ(where->endpoint.ToString(), "127.0.0.1:4242");
  EXPECT_EQ(where->run_token, token);
  (*directory)->RemoveEndpoint();
  EXPECT_EQ(ReadRunEndpoint(PosixFileSystem(), dir_ / "run").status().code(),
            StatusCode::kNotFound);
}

}  // namespace
}  // namespace weft
