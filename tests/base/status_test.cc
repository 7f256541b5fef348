#include "cluster/base/status.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <set>
#include <string>

namespace weft {
namespace {

TEST(Status, OkByDefault) {
  const Status status;
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(status.ToString(), "OK");
  EXPECT_TRUE(status.WithContext("recipe").ok());
  EXPECT_EQ(status.WithContext("recipe").message(), "");
}

TEST(Status, EachCodeHasItsNameAndMaker) {
  const Status all[] = {
      InvalidArgument("m"), NotFound("m"),    AlreadyExists("m"),    FailedPrecondition("m"),
      Corruption("m"),      Unavailable("m"), DeadlineExceeded("m"), ResourceExhausted("m"),
      Cancelled("m"),       Internal("m")};
  std::set<std::string> names;
  for (const Status& status : all) {
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(status.ToString(), std::string(StatusCodeName(status.code())) + ": m");
    names.insert(StatusCodeName(status.code()));
  }
  EXPECT_EQ(names.size(), std::size(all));
  EXPECT_EQ(names.count("UNKNOWN"), 0u);
}

TEST(Status, ContextStandsBeforeTheMessage) {
  const Status status = Corruption("block 3").WithContext("shard-0.bin").WithContext("rank 1");
  EXPECT_EQ(status.ToString(), "CORRUPTION: rank 1: shard-0.bin: block 3");
}

TEST(ErrnoStatus, ChoosesTheCode) {
  EXPECT_EQ(ErrnoStatus("open x", ENOENT).code(), StatusCode::kNotFound);
  EXPECT_EQ(ErrnoStatus("open x", EACCES).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ErrnoStatus("open x", EEXIST).code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(ErrnoStatus("write x", ENOSPC).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(ErrnoStatus("write x", EIO).code(), StatusCode::kUnavailable);
  EXPECT_EQ(ErrnoStatus("read x", ETIMEDOUT).code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(ErrnoStatus("open x", ENOENT).message(), "open x: No such file or directory");
}

StatusOr<std::unique_ptr<int>> MakePositive(int value) {
  if (value <= 0) return InvalidArgument("not positive");
  return std::make_unique<int>(value);
}

Status CheckPositive(int value) {
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<int> made, MakePositive(value));
  WEFT_RETURN_IF_ERROR(*made > 100 ? ResourceExhausted("too big") : OkStatus());
  return OkStatus();
}

TEST(StatusOr, HoldsAValueOrAReason) {
  auto good = MakePositive(3);
  ASSERT_TRUE(good.ok());
  EXPECT_TRUE(good.status().ok());
  const std::unique_ptr<int> taken = *std::move(good);
  EXPECT_EQ(*taken, 3);
  const auto bad = MakePositive(-1);
  ASSERT_FALSE(bad.ok());
  EXPECT_EQ(bad.status().message(), "not positive");
}

TEST(StatusMacros, LeaveWithTheFirstError) {
  EXPECT_TRUE(CheckPositive(3).ok());
  EXPECT_EQ(CheckPositive(0).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(CheckPositive(101).code(), StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace weft
