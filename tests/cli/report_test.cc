#include <gtest/gtest.h>

#include <fstream>

#include "cli/report_html.h"
#include "cli/run_summary.h"
#include "cluster/base/file_system.h"
#include "cluster/config/freeze.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

void Write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

class ReportTest : public ::testing::Test {
 protected:
  ReportTest() {
    Recipe recipe;
    recipe.set_name("a <run>");
    recipe.set_steps(2);
    const Status status = WriteFrozenRecipe(PosixFileSystem(), dir_ / "recipe.textproto", recipe);
    EXPECT_TRUE(status.ok()) << status;
  }
  RunSummary Read() {
    StatusOr<RunSummary> summary = ReadRunSummary(dir_.path());
    EXPECT_TRUE(summary.ok()) << summary.status();
    return summary.ok() ? *summary : RunSummary();
  }

  testing::TempDir dir_;
};

TEST_F(ReportTest, LastRecordOfAStepWinsAndATornLineIsLeftOut) {
  Write(dir_ / "steps.jsonl",
        R"({"generation":1,"step":1,"loss":3.0,"loss_bits":"a","samples":8,"seconds":2})"
        "\n"
        R"({"generation":1,"step":2,"loss":9.0,"loss_bits":"x","samples":8,"seconds":2})"
        "\n"
        R"({"generation":2,"step":2,"loss":2.5,"loss_bits":"b","samples":8,"seconds":2})"
        "\n"
        R"({"generation":2,"step":3,"lo)");
  const RunSummary summary = Read();
  ASSERT_EQ(summary.steps.size(), 2u);
  EXPECT_EQ(summary.steps[1].loss_bits, "b");
  EXPECT_EQ(summary.images_per_second, 4.0);
  EXPECT_FALSE(summary.retrieval.present);
}

TEST_F(ReportTest, CountsKillsAndTheSlowestRecovery) {
  Write(dir_ / "events.jsonl", R"({"kind":"worker_lost","text":"rank 1 was killed","time":1})"
                               "\n"
                               R"({"kind":"state","text":"noise","time":2})"
                               "\n"
                               R"({"kind":"recovered","text":"back","seconds":1.5,"time":3})"
                               "\n");
  const RunSummary summary = Read();
  EXPECT_EQ(summary.kills, 1);
  EXPECT_EQ(summary.recovery_seconds, 1.5);
  EXPECT_EQ(summary.events.size(), 2u);
}

TEST_F(ReportTest, PageEscapesTextAndMarksTheRightPicture) {
  Write(
      dir_ / "eval.json",
      R"({"details":{"pairs":2,"image_to_text":{"r1":0.5,"r5":1,"r10":1},"text_to_image":{"r1":1},)"
      R"("queries":[{"index":1,"top":[{"index":0,"score":0.9},{"index":1,"score":0.8}]}]}})");
  const std::string page =
      ReportHtml(Read(), ReportOptions(), [](int64_t index) -> StatusOr<EvalSample> {
        return EvalSample{"k", "caption <" + std::to_string(index) + ">", "ABC"};
      });
  EXPECT_NE(page.find("a &lt;run&gt;"), std::string::npos);
  EXPECT_NE(page.find("caption &lt;1&gt;"), std::string::npos);
  EXPECT_EQ(page.find("caption <1>"), std::string::npos);
  EXPECT_NE(page.find("class=hit title=\"caption &lt;1&gt; (0.800)\""), std::string::npos);
  EXPECT_NE(page.find("base64,QUJD\""), std::string::npos);
  EXPECT_EQ(page.find("<script"), std::string::npos);
}

TEST_F(ReportTest, NoRunIsOneClearError) {
  const StatusOr<RunSummary> summary = ReadRunSummary(dir_ / "nothing");
  ASSERT_FALSE(summary.ok());
  EXPECT_NE(summary.status().message().find("nothing/recipe.textproto"), std::string::npos);
}

}  // namespace
}  // namespace weft
