// Enforces tests/layering/allowed.txt on the source tree, and shows on small texts that each check
// can fail.
#include "tests/layering/layering.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace weft::layering {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string ReadFile(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

Rules RealRules() {
  std::vector<std::string> errors;
  Rules rules =
      ParseRules(ReadFile(fs::path(WEFT_SOURCE_DIR) / "tests/layering/allowed.txt"), &errors);
  EXPECT_THAT(errors, IsEmpty());
  return rules;
}

// Sources and CMakeLists.txt in the folders of the table.
std::vector<SourceFile> RealFiles(const Rules& rules) {
  std::set<std::string> tops;
  for (const auto& [folder, unused] : rules.may_include)
    tops.insert(folder.substr(0, folder.find('/')));
  std::vector<SourceFile> files;
  for (const std::string& top : tops) {
    const fs::path root = fs::path(WEFT_SOURCE_DIR) / top;
    if (!fs::exists(root)) continue;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(root)) {
      const std::string extension = entry.path().extension().string();
      if (extension != ".h" && extension != ".cc" && extension != ".cu" && extension != ".cuh" &&
          entry.path().filename() != "CMakeLists.txt") {
        continue;
      }
      files.push_back({entry.path().lexically_relative(WEFT_SOURCE_DIR).generic_string(),
                       ReadFile(entry.path())});
    }
  }
  std::sort(files.begin(), files.end(),
            [](const auto& a, const auto& b) { return a.path < b.path; });
  return files;
}

// Runs `check` on each source file of the tree and reports every violation.
template <typename Check>
void ExpectClean(Check check) {
  const Rules rules = RealRules();
  int num_files = 0;
  for (const SourceFile& file : RealFiles(rules)) {
    if (file.path.find("CMakeLists.txt") != std::string::npos) continue;
    ++num_files;
    for (const std::string& violation : check(rules, file)) ADD_FAILURE() << violation;
  }
  EXPECT_GT(num_files, 0) << "no sources under " << WEFT_SOURCE_DIR;
}

TEST(Layering, FoldersIncludeOnlyWhatTheyMay) { ExpectClean(CheckIncludes); }

TEST(Layering, LibTorchStaysInItsFolders) { ExpectClean(CheckTorch); }

TEST(Layering, NothingDrawsFromTheDefaultGenerator) { ExpectClean(CheckBannedWords); }

TEST(Layering, EveryTestFileIsBuilt) {
  for (const std::string& violation : CheckTestsAreBuilt(RealFiles(RealRules())))
    ADD_FAILURE() << violation;
}

TEST(Layering, NoTwoFoldersIncludeEachOther) {
  const Rules rules = RealRules();
  for (const auto& [folder, others] : rules.may_include) {
    for (const std::string& other : others) {
      if (folder == other) continue;
      EXPECT_EQ(rules.may_include.at(other).count(folder), 0) << folder << " and " << other;
    }
  }
}

TEST(LayeringCheck, ReadsTheTable) {
  std::vector<std::string> errors;
  const Rules rules = ParseRules(
      "# c\na/x:\na/y: a/x\nb: a/* -a/y\nall: *\ntorch: b\nbanned in b: rand( drop\n", &errors);
  EXPECT_THAT(errors, IsEmpty());
  EXPECT_THAT(rules.may_include.at("a/x"), IsEmpty());
  EXPECT_THAT(rules.may_include.at("a/y"), ElementsAre("a/x"));
  EXPECT_THAT(rules.may_include.at("b"), ElementsAre("a/x"));
  EXPECT_THAT(rules.may_include.at("all"), ElementsAre("a/x", "a/y", "all", "b"));
  EXPECT_THAT(rules.torch_folders, ElementsAre("b"));
  EXPECT_THAT(rules.banned_words.at("b"), ElementsAre("rand(", "drop"));
}

TEST(LayeringCheck, SaysWhatItDoesNotUnderstandInTheTable) {
  std::vector<std::string> errors;
  ParseRules("a\nb: c\n", &errors);
  EXPECT_THAT(errors, ElementsAre("tests/layering/allowed.txt:1: expected `folder: folders`",
                                  "tests/layering/allowed.txt: b names an unknown folder c"));
}

TEST(LayeringCheck, SeesAnIncludeAgainstTheTable) {
  const Rules rules = RealRules();
  EXPECT_THAT(
      CheckIncludes(rules, {"cluster/base/x.cc", "\n#include \"cluster/config/recipe.pb.h\"\n"}),
      ElementsAre("cluster/base/x.cc:2: cluster/base may not include cluster/config "
                  "(cluster/config/recipe.pb.h); the table is in tests/layering/allowed.txt"));
  EXPECT_THAT(CheckIncludes(rules, {"worker/x.cc", "  # include <coordinator/service.h>\n"}),
              ElementsAre(HasSubstr("worker may not include coordinator")));
  EXPECT_THAT(CheckIncludes(rules, {"models/clip/x.h",
                                    "#include \"models/spec/spec.h\"\n#include \"worker/x.h\""}),
              ElementsAre(HasSubstr("models/clip/x.h:2: models may not include worker")));
  EXPECT_THAT(CheckIncludes(rules, {"cli/main.cc", "#include \"neighbour.h\"\n"}),
              ElementsAre(HasSubstr("path from the root")));
  EXPECT_THAT(CheckIncludes(rules, {"elsewhere/x.cc", ""}), ElementsAre(HasSubstr("is not in")));
  EXPECT_THAT(CheckIncludes(rules, {"cluster/config/x.cc",
                                    "#include <vector>\n#include \"cluster/base/status.h\"\n"}),
              IsEmpty());
}

TEST(LayeringCheck, SeesLibTorchInATorchFreeFolder) {
  const Rules rules = RealRules();
  const std::string text = "#include <ATen/core/Tensor.h>\n#include <c10/core/Allocator.h>\n";
  EXPECT_THAT(CheckTorch(rules, {"cluster/comm/x.h", text}),
              ElementsAre(HasSubstr("cluster/comm/x.h:1: cluster/comm is free of LibTorch"),
                          HasSubstr("x.h:2: ")));
  EXPECT_EQ(CheckTorch(rules, {"models/spec/x.h", text}).size(), 2U);
  EXPECT_EQ(CheckTorch(rules, {"parallel/schedule/x.h", text}).size(), 2U);
  EXPECT_THAT(CheckTorch(rules, {"models/clip/x.h", text}), IsEmpty());
}

TEST(LayeringCheck, SeesTheDefaultGenerator) {
  const Rules rules = RealRules();
  EXPECT_THAT(CheckBannedWords(
                  rules, {"models/x.cc", "auto y = at::dropout(x, p, true);\nw.normal_(0, 1);\n"}),
              ElementsAre(HasSubstr("models/x.cc:1: `at::dropout`"),
                          HasSubstr("models/x.cc:2: `normal_(`")));
  EXPECT_THAT(CheckBannedWords(
                  rules, {"models/x.cc", "operand(x); // not at::rand(x)\nKeyedDropout(x);\n"}),
              IsEmpty());
  EXPECT_THAT(CheckBannedWords(rules, {"dataloader/x.cc", "at::rand(x);"}), IsEmpty());
}

TEST(LayeringCheck, SeesATestThatIsNotBuilt) {
  EXPECT_THAT(CheckTestsAreBuilt(
                  {{"tests/a/CMakeLists.txt", "weft_test(NAME a SRCS x_test.cc # y_test.cc\n)"},
                   {"tests/a/x_test.cc", ""},
                   {"tests/a/y_test.cc", ""},
                   {"tests/b/x_test.cc", ""}}),
              ElementsAre(HasSubstr("tests/a/y_test.cc:1: no CMakeLists.txt builds it"),
                          HasSubstr("tests/b/x_test.cc:1: ")));
}

}  // namespace
}  // namespace weft::layering
