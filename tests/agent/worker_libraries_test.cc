#include "cluster/launch/worker_libraries.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/support/temp_dir.h"

namespace weft {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

void Write(const std::string& path, const std::string& text) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path) << text;
}

// A folder that looks like LibTorch's.
void WriteLibTorch(const std::string& root, const std::string& minor) {
  Write(root + "/lib/libtorch_cpu.so", "");
  Write(root + "/include/torch/headeronly/version.h",
        "#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR " + minor +
            "\n#define TORCH_VERSION_PATCH 0\n");
}

class WorkerLibrariesTest : public ::testing::Test {
 protected:
  // Whoever runs the tests may have one.
  WorkerLibrariesTest() { ::unsetenv("LIBTORCH_ROOT"); }
  ~WorkerLibrariesTest() override {
    ::unsetenv("LIBTORCH_ROOT");
    ::setenv("PATH", path_.c_str(), 1);
  }
  StatusOr<std::string> Find() { return WorkerLibraryPath(dir_ / "bundle/bin/weft-worker"); }

  const std::string path_ = std::getenv("PATH");
  testing::TempDir dir_;
};

TEST_F(WorkerLibrariesTest, OnlyABundleIsGivenAPath) {
  ::setenv("LIBTORCH_ROOT", "/nowhere", 1);
  const auto built = Find();
  ASSERT_TRUE(built.ok()) << built.status();
  EXPECT_EQ(*built, "");
  Write(dir_ / "bundle/BUNDLE", "");
  EXPECT_THAT(Find().status().message(), HasSubstr("LIBTORCH_ROOT=/nowhere holds no LibTorch"));
}

TEST_F(WorkerLibrariesTest, ItsOwnCudaLibrariesComeBeforeAToolkits) {
  Write(dir_ / "bundle/BUNDLE", "");
  WriteLibTorch(dir_ / "site/torch", "11");
  Write(dir_ / "site/nvidia/cu13/lib/libcudart.so.13", "");
  Write(dir_ / "toolkit/lib64/libcudart.so.13", "");
  ::setenv("LIBTORCH_ROOT", (dir_ / "site/torch").c_str(), 1);
  ::setenv("CUDA_HOME", (dir_ / "toolkit").c_str(), 1);
  const auto path = Find();
  ::unsetenv("CUDA_HOME");
  ASSERT_TRUE(path.ok()) << path.status();
  EXPECT_THAT(*path,
              StartsWith(dir_ / "site/torch/lib:" + (dir_ / "site/torch/../nvidia/cu13/lib")));
  EXPECT_THAT(*path, HasSubstr(":" + (dir_ / "toolkit/lib64")));
}

TEST_F(WorkerLibrariesTest, AnotherVersionIsRefusedByName) {
  Write(dir_ / "bundle/BUNDLE", "");
  WriteLibTorch(dir_ / "torch", "10");
  ::setenv("LIBTORCH_ROOT", (dir_ / "torch").c_str(), 1);
  EXPECT_THAT(Find().status().message(),
              HasSubstr("holds LibTorch 2.10.0; this bundle needs 2.11"));
}

TEST_F(WorkerLibrariesTest, WithoutAnyItSaysWhatToSet) {
  Write(dir_ / "bundle/BUNDLE", "");
  ::setenv("PATH", dir_.path().c_str(), 1);  // no python3
  EXPECT_EQ(Find().status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(Find().status().message(), HasSubstr("set LIBTORCH_ROOT"));
}

}  // namespace
}  // namespace weft
