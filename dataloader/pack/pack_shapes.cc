#include "dataloader/pack/pack_shapes.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "cluster/base/file_system.h"
#include "cluster/base/philox.h"
#include "cluster/base/text.h"
#include "dataloader/jpeg_codec.h"
#include "dataloader/pack/captions.h"
#include "dataloader/pack/done_file.h"
#include "dataloader/picture_check.h"
#include "dataloader/sample_source.h"
#include "dataloader/shard_file.h"
#include "dataloader/shard_index.h"
#include "dataloader/tar_writer.h"

namespace weft {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kFormat = 1;
constexpr int kQuality = 95;

struct Colour {
  const char* name;
  std::array<double, 3> rgb;
};
constexpr Colour kColours[] = {{"red", {214, 39, 40}},     {"green", {44, 140, 44}},
                               {"blue", {31, 80, 200}},    {"yellow", {245, 220, 40}},
                               {"purple", {130, 60, 170}}, {"orange", {250, 130, 20}},
                               {"white", {250, 250, 250}}, {"black", {15, 15, 15}}};
constexpr Colour kGrounds[] = {{"grey", {128, 128, 128}},  {"brown", {110, 70, 45}},
                               {"pink", {250, 180, 200}},  {"cyan", {90, 215, 225}},
                               {"beige", {225, 210, 175}}, {"navy", {20, 30, 80}}};
constexpr const char* kRows[] = {"top", "", "bottom"};
constexpr const char* kColumns[] = {"left", "", "right"};

// Signed distances from the outline in units of the shape's radius, negative inside; x and y likewise.
double Circle(double x, double y) { return std::hypot(x, y) - 1; }
double Square(double x, double y) { return std::max(std::abs(x), std::abs(y)) - 0.9; }
double Diamond(double x, double y) { return (std::abs(x) + std::abs(y) - 1.2) / std::sqrt(2); }
double Triangle(double x, double y) {
  return std::max(y - 0.7, 0.8660254 * std::abs(x) - 0.5 * y - 0.5);
}
double Ring(double x, double y) { return std::abs(std::hypot(x, y) - 0.75) - 0.25; }
double Cross(double x, double y) {
  const double a = std::max(std::abs(x) - 1, std::abs(y) - 0.3);
  const double b = std::max(std::abs(y) - 1, std::abs(x) - 0.3);
  return std::min(a, b);
}
struct Shape {
  const char* name;
  double (*distance)(double x, double y);
};
constexpr Shape kShapes[] = {{"circle", Circle},     {"square", Square}, {"diamond", Diamond},
                             {"triangle", Triangle}, {"ring", Ring},     {"cross", Cross}};

std::string Place(size_t row, size_t column) {
  if (row == 1 && column == 1) return "in the centre";
  const std::string both = std::string(kRows[row]) + " " + kColumns[column];
  const size_t begin = row == 1 ? 1 : 0;
  return "at the " + both.substr(begin, both.size() - begin - (column == 1 ? 1 : 0));
}

// The outline is one pixel soft.
Image Render(const Shape& shape, const Colour& colour, const Colour& ground, double centre_x,
             double centre_y, double radius, int side) {
  Image image;
  image.width = side;
  image.height = side;
  image.rgb.resize(static_cast<size_t>(side) * static_cast<size_t>(side) * 3);
  size_t at = 0;
  for (int y = 0; y < side; ++y) {
    for (int x = 0; x < side; ++x) {
      const double distance =
          shape.distance((x + 0.5 - centre_x) / radius, (y + 0.5 - centre_y) / radius) * radius;
      const double inside = std::clamp(0.5 - distance, 0.0, 1.0);
      for (size_t c = 0; c < 3; ++c) {
        const double value = inside * colour.rgb[c] + (1 - inside) * ground.rgb[c];
        image.rgb[at++] = static_cast<uint8_t>(std::lround(value));
      }
    }
  }
  return image;
}

std::string DonePath(const PackShapesOptions& options) { return JoinPath(options.out, "_done"); }

Json OptionsJson(const PackShapesOptions& options) {
  return {{"format", kFormat},
          {"pictures", options.pictures},
          {"side", options.side},
          {"shards", options.shards},
          {"seed", options.seed}};
}

// NotFound unless an earlier call with the same options finished and its shards are still there.
StatusOr<PackShapesReport> ReadDone(const PackShapesOptions& options) {
  WEFT_ASSIGN_OR_RETURN(const Json done, ReadDoneFile(options.out, OptionsJson(options)));
  try {
    return PackShapesReport{done.at("train"), done.at("held_out"), done.at("dropped_twins"), true};
  } catch (const Json::exception& error) {
    return NotFound(DonePath(options) + ": " + error.what());
  }
}

Status WriteShard(const PackShapesOptions& options, const std::string& name,
                  const std::vector<int64_t>& numbers, Json* files) {
  const std::string path = JoinPath(options.out, name);
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<TarWriter> writer,
                        TarWriter::Create(PosixFileSystem(), path));
  for (const int64_t number : numbers) {
    const ShapePicture picture = DrawShape(options.seed, number, options.side);
    WEFT_ASSIGN_OR_RETURN(const std::string jpeg, EncodeJpeg(picture.image, kQuality));
    char key[32];
    std::snprintf(key, sizeof key, "shape-%07lld", static_cast<long long>(number));
    WEFT_RETURN_IF_ERROR(writer->AddSample(key, {{"jpg", jpeg}, {"txt", picture.caption}}));
  }
  WEFT_RETURN_IF_ERROR(writer->Finish());
  // Every picture is a JPEG of our own making.
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<ShardFile> file, ShardFile::Open(path));
  WEFT_ASSIGN_OR_RETURN(const ShardIndex index, ShardIndex::Build(*file));
  WEFT_RETURN_IF_ERROR(
      WritePictureCheck(*file, index, LowerExtensions(DataRecipe().image_extensions()), {}));
  WEFT_ASSIGN_OR_RETURN((*files)[name], PosixFileSystem()->FileSize(path));
  return OkStatus();
}

Status WriteShards(const PackShapesOptions& options, const std::string& set, int64_t shards,
                   const std::vector<int64_t>& numbers, Json* files) {
  const auto count = static_cast<int64_t>(numbers.size());
  for (int64_t shard = 0; shard < shards; ++shard) {
    char name[64];
    std::snprintf(name, sizeof name, "%s-%06lld.tar", set.c_str(), static_cast<long long>(shard));
    const std::vector<int64_t> own(numbers.begin() + shard * count / shards,
                                   numbers.begin() + (shard + 1) * count / shards);
    WEFT_RETURN_IF_ERROR(WriteShard(options, name, own, files));
  }
  return OkStatus();
}

Status CheckOptions(const PackShapesOptions& options) {
  if (options.out.empty()) return InvalidArgument("--out: name the folder that the shards go to");
  if (options.pictures < 100 || options.pictures > 10'000'000)
    return InvalidArgument("--pictures must be in 100..10000000");
  if (options.side < 16 || options.side > 4096)
    return InvalidArgument("--side must be in 16..4096");
  if (options.shards < 1 || options.shards > 1000)
    return InvalidArgument("--shards must be in 1..1000");
  return OkStatus();
}

}  // namespace

ShapePicture DrawShape(uint64_t seed, int64_t number, int side) {
  const KeyedRandom random(seed, "shapes");
  uint64_t draws = 0;
  const auto pick = [&](size_t n) {
    return static_cast<size_t>(random.Below(n, static_cast<uint64_t>(number), draws++));
  };
  const auto between = [&](double low, double high) {
    return low + (high - low) * random.Uniform(static_cast<uint64_t>(number), draws++);
  };
  const Shape& shape = kShapes[pick(std::size(kShapes))];
  const Colour& colour = kColours[pick(std::size(kColours))];
  const Colour& ground = kGrounds[pick(std::size(kGrounds))];
  const bool large = pick(2) == 1;
  const size_t row = pick(3);
  const size_t column = pick(3);
  // In parts of the side.
  const double radius = large ? between(0.17, 0.21) : between(0.08, 0.11);
  const auto centre = [&](size_t third) {
    return 0.23 + 0.27 * static_cast<double>(third) + between(-0.02, 0.02);
  };
  const double x = centre(column);
  const double y = centre(row);
  ShapePicture picture;
  picture.caption = std::string("a ") + (large ? "large " : "small ") + colour.name + " " +
                    shape.name + " " + Place(row, column) + " on a " + ground.name + " ground";
  picture.image = Render(shape, colour, ground, x * side, y * side, radius * side, side);
  return picture;
}

StatusOr<PackShapesReport> PackShapes(const PackShapesOptions& options) {
  WEFT_RETURN_IF_ERROR(CheckOptions(options));
  if (StatusOr<PackShapesReport> done = ReadDone(options); done.ok()) return done;
  FileSystem* fs = PosixFileSystem();
  WEFT_RETURN_IF_ERROR(fs->MakeDirs(options.out));
  if (fs->Exists(DonePath(options))) WEFT_RETURN_IF_ERROR(fs->Remove(DonePath(options)));
  PackShapesReport report;
  std::vector<int64_t> train;
  std::vector<int64_t> held_out;
  std::set<std::string> seen;
  for (int64_t number = 0; number < options.pictures; ++number) {
    // The caption does not depend on the side.
    const std::string caption = NormalizeCaption(DrawShape(options.seed, number, 1).caption);
    const bool first = seen.insert(caption).second;
    if (!IsHeldOut(caption)) {
      train.push_back(number);
    } else if (first) {
      held_out.push_back(number);
    } else {
      ++report.dropped_twins;
    }
  }
  report.train = static_cast<int64_t>(train.size());
  report.held_out = static_cast<int64_t>(held_out.size());
  Json files = Json::object();
  WEFT_RETURN_IF_ERROR(WriteShards(options, "train", options.shards, train, &files));
  WEFT_RETURN_IF_ERROR(WriteShards(options, "eval", 1, held_out, &files));
  const Json done = {{"options", OptionsJson(options)},
                     {"train", report.train},
                     {"held_out", report.held_out},
                     {"dropped_twins", report.dropped_twins},
                     {"files", files}};
  WEFT_RETURN_IF_ERROR(WriteFileDurably(fs, DonePath(options), done.dump(1) + "\n"));
  return report;
}

}  // namespace weft
