#include "coordinator/tensorboard_writer.h"

#include <gtest/gtest.h>

#include "tests/support/temp_dir.h"

namespace weft {
namespace {

std::string Hex(const std::string& bytes) {
  std::string hex;
  for (const char c : bytes) {
    hex += "0123456789abcdef"[static_cast<unsigned char>(c) >> 4];
    hex += "0123456789abcdef"[static_cast<unsigned char>(c) & 15];
  }
  return hex;
}

// The expected bytes are what TensorBoard 2.20 itself serialises and writes.
TEST(TensorboardWriterTest, FramesARecordAsTensorboardDoes) {
  EXPECT_EQ(Hex(TfRecord("weft")), "04000000000000004245520477656674b7f7298a");
}

TEST(TensorboardWriterTest, EncodesEventsAsTensorboardDoes) {
  EXPECT_EQ(Hex(FileVersionEvent(1.5)), "09000000000000f83f1a0d627261696e2e4576656e743a32");
  EXPECT_EQ(Hex(SessionStartEvent(1.5, 31)), "09000000000000f83f101f3a020801");
  EXPECT_EQ(Hex(ScalarsEvent(1.5, 300, {{"loss", 0.5}})),
            "09000000000000f83f10ac022a0d0a0b0a046c6f7373150000003f");
}

TEST(TensorboardWriterTest, AFileStartsWithItsVersion) {
  testing::TempDir dir;
  auto writer = TensorboardWriter::Create(PosixFileSystem(), dir / "tb", 1.5);
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE((*writer)->WriteScalars(1.5, 1, {{"loss", 0.5}}).ok());
  const auto names = PosixFileSystem()->ListDir(dir / "tb");
  ASSERT_EQ(names->size(), 1u);
  EXPECT_EQ(names->front().rfind("events.out.tfevents.0000000002.", 0), 0u) << names->front();
  EXPECT_EQ(*PosixFileSystem()->ReadFile(dir / ("tb/" + names->front())),
            TfRecord(FileVersionEvent(1.5)) + TfRecord(ScalarsEvent(1.5, 1, {{"loss", 0.5}})));
}

}  // namespace
}  // namespace weft
