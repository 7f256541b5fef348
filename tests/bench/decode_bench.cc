// From JPEG bytes to cropped and resized planes: images a second of one thread, each way of doing it in turn, and the part of
// it that libjpeg-turbo spends on entropy decoding alone.
//
//   weft_decode_bench [--size 224] [--repeats 7] [--planes FILE] [--json FILE] FILE.jpg...
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <nlohmann/json.hpp>

#include "cli/flags.h"
#include "cluster/base/file_system.h"
#include "cluster/base/hash.h"
#include "dataloader/augment.h"
#include "dataloader/jpeg/entropy_decoder.h"
#include "tests/dataloader/jpeg_oracle.h"
#include "tests/support/call_counts.h"

namespace weft {
namespace {

struct BenchOptions {
  std::vector<std::string> files;
  std::string json;
  std::string planes;
  int64_t size = 224;
  int64_t repeats = 7;
};

double CpuSeconds() {
  timespec time = {};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

struct Way {
  std::string name;
  std::function<bool(size_t)> work;
  std::vector<double> seconds;  // of each repeat
};

bool OwnEntropy(jpeg::EntropyDecoder* decoder, jpeg::McuRow* row, std::string_view bytes) {
  jpeg::Header header;
  if (!jpeg::ParseHeader(bytes, &header) || !decoder->Start(header, bytes)) return false;
  const int mcus = decoder->mcus_x();
  for (int y = 0; y < decoder->mcus_y(); ++y) {
    for (size_t c = 0; c < static_cast<size_t>(header.num_components); ++c) {
      (*row)[c].Resize(header.components[c].v, mcus * header.components[c].h);
      (*row)[c].Clear(0, (mcus * header.components[c].h + 3) / 4);
    }
    if (!decoder->DecodeRow(0, mcus, row)) return false;
  }
  return decoder->AtSegmentEnd();
}

// The way before there was a decoder of our own: libjpeg-turbo's RGB at 1/2^k, all of it, then crop and resize.
class TurboWay {
 public:
  bool Cook(const std::string& bytes, const Augmentation& a, int width, int height, int size,
            uint8_t* planes) {
    int shrink = 1;
    while (shrink < 8 && std::min(a.width, a.height) / (2.0 * shrink) >= size) shrink *= 2;
    if (!OraclePixels(bytes, shrink, &image_)) return false;
    const auto axis = [&](int begin, int length, int extent, int full) {
      const double ratio = static_cast<double>(extent) / full;
      const double last = std::min((begin + length) * ratio, static_cast<double>(extent));
      return ResizeAxis{begin * ratio,
                        last,
                        static_cast<int>(begin * ratio),
                        static_cast<int>(std::ceil(last)),
                        size,
                        0,
                        size};
    };
    resizer_.ToPlanes(image_, axis(a.left, a.width, image_.width, width),
                      axis(a.top, a.height, image_.height, height), ResizeFilter::kBicubic, a.flip,
                      planes);
    return true;
  }

 private:
  Image image_;
  Resizer resizer_;
};

AugmentRecipe Recipe(double scale_min) {
  AugmentRecipe recipe;
  recipe.set_scale_min(scale_min);
  recipe.set_flip_probability(0.5);
  return recipe;
}

// Evaluation takes the whole picture.
AugmentRecipe InMode(ImageMode mode) {
  AugmentRecipe recipe;
  recipe.set_image_mode(mode);
  recipe.set_eval_resize(AugmentRecipe::SQUASH);
  return recipe;
}

class Bench {
 public:
  Bench(BenchOptions options, std::vector<std::string> bytes)
      : options_(std::move(options)),
        bytes_(std::move(bytes)),
        size_(static_cast<int>(options_.size)) {
    planes_.resize(3 * static_cast<size_t>(size_) * static_cast<size_t>(size_));
    ways_.push_back(
        {"jpeg_read_coefficients", [this](size_t i) { return ReadCoefficients(bytes_[i]); }, {}});
    ways_.push_back({"own entropy decoder",
                     [this](size_t i) { return OwnEntropy(&entropy_, &row_, bytes_[i]); },
                     {}});
    for (const ImageMode mode : {ImageMode::FAST, ImageMode::EXACT})
      ways_.push_back({ImageMode_Name(mode) + ", whole",
                       [this, mode](size_t i) { return Whole(i, mode); },
                       {}});
    for (const double scale : {0.9, 0.2}) {
      const std::string crop = scale == 0.9 ? ", RRC(0.9-1)" : ", RRC(0.2-1)";
      ways_.push_back(
          {"libjpeg-turbo scaled" + crop, [this, scale](size_t i) { return Turbo(i, scale); }, {}});
      for (const ImageMode mode : {ImageMode::FAST, ImageMode::EXACT})
        ways_.push_back({ImageMode_Name(mode) + crop,
                         [this, scale, mode](size_t i) { return Own(i, scale, mode); },
                         {}});
    }
  }

  bool Run() {
    for (int64_t repeat = -1; repeat < options_.repeats; ++repeat) {  // the first warms up
      for (Way& way : ways_) {
        const double start = CpuSeconds();
        for (size_t i = 0; i < bytes_.size(); ++i)
          if (!way.work(i)) return false;
        if (repeat >= 0) way.seconds.push_back(CpuSeconds() - start);
      }
    }
    return true;
  }

  // What each mode asks of the allocator and of locks when all buffers have grown. REQUIRES: Run.
  nlohmann::ordered_json SteadyState() {
    nlohmann::ordered_json json;
    for (const ImageMode mode : {ImageMode::FAST, ImageMode::EXACT}) {
      testing::StartCountingCalls();
      for (size_t i = 0; i < bytes_.size(); ++i) (void)Own(i, 0.9, mode);
      const testing::CallCounts counts = testing::StopCountingCalls();
      std::printf("%s: %lld allocations and %lld locks in %zu images\n",
                  ImageMode_Name(mode).c_str(), static_cast<long long>(counts.allocations),
                  static_cast<long long>(counts.locks), bytes_.size());
      json[ImageMode_Name(mode)] = {
          {"images", bytes_.size()}, {"allocations", counts.allocations}, {"locks", counts.locks}};
    }
    return json;
  }

  // How far FAST is from EXACT, with RRC(0.9-1).
  nlohmann::ordered_json Difference() {
    double sum = 0;
    double squares = 0;
    int max = 0;
    std::vector<uint8_t> exact;
    for (size_t i = 0; i < bytes_.size(); ++i) {
      if (!Own(i, 0.9, ImageMode::EXACT)) return {};
      exact = planes_;
      if (!Own(i, 0.9, ImageMode::FAST)) return {};
      for (size_t k = 0; k < exact.size(); ++k) {
        const int difference = std::abs(exact[k] - planes_[k]);
        sum += difference;
        squares += difference * difference;
        max = std::max(max, difference);
      }
    }
    const double count = static_cast<double>(bytes_.size() * planes_.size());
    const double psnr = 10 * std::log10(255 * 255 / (squares / count));
    std::printf("FAST from EXACT: mean %.2f, max %d of 255, PSNR %.1f dB\n", sum / count, max,
                psnr);
    return {{"mean", sum / count}, {"max", max}, {"psnr", psnr}};
  }

  nlohmann::ordered_json Report() const {
    nlohmann::ordered_json json;
    double coefficients = 0;
    for (const Way& way : ways_) {
      std::vector<double> seconds = way.seconds;
      std::sort(seconds.begin(), seconds.end());
      const double each = seconds[seconds.size() / 2] / static_cast<double>(bytes_.size());
      if (coefficients == 0) coefficients = each;
      std::printf("%-34s %9.1f us %9.0f images/s %7.2f of jpeg_read_coefficients' speed\n",
                  way.name.c_str(), each * 1e6, 1 / each, coefficients / each);
      json[way.name] = {{"cpu_us", each * 1e6},
                        {"images_per_second", 1 / each},
                        {"of_jpeg_read_coefficients", coefficients / each}};
    }
    return json;
  }

 private:
  Augmentation Draw(size_t i, double scale, int width, int height) const {
    return DrawAugmentation(Recipe(scale), random_, i, width, height);
  }
  bool Turbo(size_t i, double scale) {
    const auto info = ReadImageInfo(bytes_[i]);
    return info.ok() && turbo_.Cook(bytes_[i], Draw(i, scale, info->width, info->height),
                                    info->width, info->height, size_, planes_.data());
  }
  bool Own(size_t i, double scale, ImageMode mode) {
    return cookers_[mode]
        .CookForTraining(bytes_[i], Recipe(scale), random_, i, size_, planes_.data())
        .ok();
  }
  bool Whole(size_t i, ImageMode mode) {
    return cookers_[mode].CookForEval(bytes_[i], size_, planes_.data()).ok();
  }

  BenchOptions options_;
  std::vector<std::string> bytes_;
  int size_;
  KeyedRandom random_{1, "augment:train", 0};
  std::vector<uint8_t> planes_;
  jpeg::EntropyDecoder entropy_;
  jpeg::McuRow row_;
  TurboWay turbo_;
  ImageCooker cookers_[2] = {ImageCooker(InMode(ImageMode::FAST)),
                             ImageCooker(InMode(ImageMode::EXACT))};
  std::vector<Way> ways_;
};

// "FILE HASH" lines of exact evaluation planes, to be compared with Pillow's.
Status WritePlanes(const BenchOptions& options, const std::vector<std::string>& bytes) {
  AugmentRecipe recipe;
  recipe.set_image_mode(ImageMode::EXACT);
  ImageCooker cooker(recipe);
  const int size = static_cast<int>(options.size);
  std::string planes(3 * static_cast<size_t>(size) * static_cast<size_t>(size), 0);
  std::string text;
  for (size_t i = 0; i < bytes.size(); ++i) {
    WEFT_RETURN_IF_ERROR(
        cooker.CookForEval(bytes[i], size, reinterpret_cast<uint8_t*>(planes.data())));
    text += options.files[i] + " " + Sha256Hex(planes) + "\n";
  }
  return WriteFileDurably(PosixFileSystem(), options.planes, text);
}

Status Run(const BenchOptions& options) {
  std::vector<std::string> bytes;
  for (const std::string& file : options.files) {
    WEFT_ASSIGN_OR_RETURN(std::string content, PosixFileSystem()->ReadFile(file));
    bytes.push_back(std::move(content));
  }
  if (!options.planes.empty()) return WritePlanes(options, bytes);
  Bench bench(options, std::move(bytes));
  if (!bench.Run()) return Corruption("a file is no baseline JPEG, or does not decode");
  nlohmann::ordered_json report = bench.Report();
  report["fast_from_exact"] = bench.Difference();
  report["steady_state"] = bench.SteadyState();
  if (options.json.empty()) return OkStatus();
  return WriteFileDurably(PosixFileSystem(), options.json, report.dump(1) + "\n");
}

int Main(const std::vector<std::string>& args) {
  BenchOptions options;
  FlagParser flags("weft_decode_bench", "FILE.jpg... [flags]",
                   "Measures how fast baseline JPEGs become planes, one thread.");
  flags.String("json", &options.json, "file that the figures are written to");
  flags.String("planes", &options.planes, "instead: file for hashes of exact evaluation planes");
  flags.Int("size", &options.size, "side of the planes");
  flags.Int("repeats", &options.repeats, "times that each way is measured");
  flags.Positional(1, 100000);
  ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  options.files = std::move(parsed.positional);
  const Status status = Run(options);
  return status.ok() ? 0 : ReportError("weft_decode_bench", status);
}

}  // namespace
}  // namespace weft

int main(int argc, char** argv) { return weft::Main({argv + 1, argv + argc}); }
