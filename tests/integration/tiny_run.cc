#include "tests/integration/tiny_run.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cluster/base/file_system.h"
#include "dataloader/image_decode.h"
#include "dataloader/jpeg_codec.h"
#include "dataloader/tar_writer.h"

namespace weft::testing {
namespace {

const char* const kColors[] = {"red", "green", "blue", "yellow", "black", "orange"};
const uint8_t kRgb[][3] = {{220, 30, 30},  {30, 180, 60}, {40, 60, 220},
                           {240, 220, 40}, {10, 10, 10},  {250, 140, 20}};
const char* const kShapes[] = {"disc", "bar",   "cross", "frame", "stairs",
                               "dots", "wedge", "rings", "check", "slope"};

bool Inside(int shape, int x, int y) {
  const double dx = x - 24;
  const double dy = y - 24;
  const double r = std::sqrt(dx * dx + dy * dy);
  switch (shape) {
    case 0:
      return r < 16;
    case 1:
      return std::fabs(dy) < 6;
    case 2:
      return std::fabs(dx) < 5 || std::fabs(dy) < 5;
    case 3:
      return std::fmax(std::fabs(dx), std::fabs(dy)) > 16;
    case 4:
      return y / 8 > x / 8;
    case 5:
      return x % 12 < 5 && y % 12 < 5;
    case 6:
      return y > 2 * std::fabs(dx);
    case 7:
      return static_cast<int>(r) / 5 % 2 == 0;
    case 8:
      return (x / 8 + y / 8) % 2 == 0;
    default:
      return x > y;
  }
}

std::string Picture(int color, int shape) {
  Image image{48, 48, {}};
  for (int y = 0; y < 48; ++y) {
    for (int x = 0; x < 48; ++x) {
      for (int c = 0; c < 3; ++c) image.rgb.push_back(Inside(shape, x, y) ? kRgb[color][c] : 245);
    }
  }
  StatusOr<std::string> jpeg = EncodeJpeg(image, 95);
  EXPECT_TRUE(jpeg.ok()) << jpeg.status();
  return jpeg.ok() ? *jpeg : "";
}

void WritePairs(const std::string& path, int first_shape, int end_shape) {
  auto writer = TarWriter::Create(PosixFileSystem(), path);
  ASSERT_TRUE(writer.ok()) << writer.status();
  for (int shape = first_shape; shape < end_shape; ++shape) {
    for (int color = 0; color < 6; ++color) {
      const std::string key = "s" + std::to_string(100 + 10 * shape + color);
      const std::string caption = std::string(kColors[color]) + " " + kShapes[shape];
      const Status status =
          (*writer)->AddSample(key, {{"jpg", Picture(color, shape)}, {"txt", caption}});
      ASSERT_TRUE(status.ok()) << status;
    }
  }
  const Status finished = (*writer)->Finish();
  ASSERT_TRUE(finished.ok()) << finished;
}

constexpr char kRecipe[] = R"(
name: "tiny" steps: 24
model { clip { embed_dim: 24 image_size: 32 patch_size: 8 vision_width: 64 vision_layers: 2 vision_heads: 1
               context_length: 12 vocab_size: 514 text_width: 64 text_layers: 2 text_heads: 2 } }
batch { slots: 4 micro_batches: 2 micro_batch_size: 2 }
data { train_shards: "train-{000000..000001}.tar" eval_shards: "eval-000000.tar" vocabulary: "vocab.txt" }
optimizer { lr: 1e-3 clip_norm: 1.0 }
schedule { warmup_steps: 4 }
eval { retrieval: true }
layout { dp: 2 }
run { checkpoint_every: 6 }
)";

}  // namespace

TinyRun::TinyRun() {
  WritePairs(Path("train-000000.tar"), 0, 4);
  WritePairs(Path("train-000001.tar"), 4, 8);
  WritePairs(Path("eval-000000.tar"), 8, 10);
  std::ofstream(Path("vocab.txt")) << "#version: 0.2\n";
  std::ofstream(Path("recipe.textproto")) << kRecipe;
}

std::vector<std::string> TinyRun::TrainArgs(const std::string& run,
                                            const std::vector<std::string>& extra) const {
  std::vector<std::string> args = {WEFT_PROGRAM, "train", "recipe.textproto", "--run-dir", run};
  args.insert(args.end(), extra.begin(), extra.end());
  return args;
}

ProgramResult TinyRun::Train(const std::string& run, const std::vector<std::string>& extra) const {
  return RunProgram(TrainArgs(run, extra), dir_.path());
}

ProgramResult TinyRun::Weft(const std::vector<std::string>& args) const {
  std::vector<std::string> all = {WEFT_PROGRAM};
  all.insert(all.end(), args.begin(), args.end());
  return RunProgram(all, dir_.path());
}

std::map<int64_t, std::string> TinyRun::LossBits(const std::string& run) const {
  std::map<int64_t, std::string> bits;
  std::ifstream file(Path(run + "/steps.jsonl"));
  for (std::string line; std::getline(file, line);) {
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (json.is_object()) bits[json.value("step", int64_t{-1})] = json.value("loss_bits", "");
  }
  return bits;
}

int64_t TinyRun::NumStepRecords(const std::string& run) const {
  std::ifstream file(Path(run + "/steps.jsonl"));
  int64_t lines = 0;
  for (std::string line; std::getline(file, line);) ++lines;
  return lines;
}

std::vector<pid_t> TinyRun::Workers() const {
  std::vector<pid_t> mine;
  for (const pid_t pid : FindProcesses({"weft-worker", "--control-fd"})) {
    std::error_code error;
    const auto cwd = std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/cwd", error);
    if (cwd == dir_.path()) mine.push_back(pid);
  }
  return mine;
}

}  // namespace weft::testing
