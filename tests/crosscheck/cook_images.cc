// What Weft makes of pictures, for a comparison with other libraries' pixels.
//
//   weft_cook_images LIST OUT [--size 64] [--operations]
//
// LIST has a path a line. OUT holds for each a byte (1: it decodes) and, if so, planes of 3 * size * size bytes: exact, fast,
// and with --operations exact ones after each operation of cook_images.cc's table.
#include <cstdio>
#include <sstream>

#include "cli/flags.h"
#include "cluster/base/file_system.h"
#include "dataloader/augment.h"

namespace weft {
namespace {

AugmentRecipe PapersRecipe(ImageMode mode) {
  AugmentRecipe recipe;
  recipe.set_image_mode(mode);
  recipe.set_alpha(AugmentRecipe::DROP);
  return recipe;
}

// In the order that images.py knows.
constexpr DrawnOp kOperations[] = {
    {PixelOp::kAutoContrast, 0}, {PixelOp::kEqualize, 0},      {PixelOp::kBrightness, 1.36},
    {PixelOp::kBrightness, 0.4}, {PixelOp::kSharpness, 1.36},  {PixelOp::kSharpness, 0.28},
    {PixelOp::kShearX, 0.21},    {PixelOp::kShearX, -0.15},    {PixelOp::kShearY, 0.21},
    {PixelOp::kTranslateX, 7},   {PixelOp::kTranslateY, -3.5}, {PixelOp::kRotate, 21},
    {PixelOp::kRotate, -15},
};

class Cook {
 public:
  explicit Cook(int size) : size_(size), planes_(3 * size_t(size) * size_t(size), 0) {}

  void Run(const std::string& bytes, bool operations, std::string* out) {
    auto* planes = reinterpret_cast<uint8_t*>(planes_.data());
    if (!exact_.CookForEval(bytes, size_, planes).ok()) {
      *out += '\0';
      return;
    }
    *out += '\1' + planes_;
    const std::string cooked = planes_;
    (void)fast_.CookForEval(bytes, size_, planes);
    *out += planes_;
    if (!operations) return;
    const PixelPlanes view{planes, size_, size_};
    const auto add = [&](const auto& change) {
      planes_ = cooked;
      change();
      *out += planes_;
    };
    for (const DrawnOp& op : kOperations) add([&] { ApplyOp(op, view, &scratch_); });
    for (const double factor : {0.3, 1.7}) {
      add([&] { AdjustContrast(factor, view); });
      add([&] { AdjustSaturation(factor, view); });
    }
  }

 private:
  int size_;
  ImageCooker exact_{PapersRecipe(ImageMode::EXACT)};
  ImageCooker fast_{PapersRecipe(ImageMode::FAST)};
  std::string planes_;
  std::vector<uint8_t> scratch_;
};

Status Run(const std::string& list, const std::string& file, int size, bool operations) {
  WEFT_ASSIGN_OR_RETURN(const std::string paths, PosixFileSystem()->ReadFile(list));
  std::istringstream lines(paths);
  std::string out;
  std::string path;
  Cook cook(size);
  while (std::getline(lines, path)) {
    WEFT_ASSIGN_OR_RETURN(const std::string bytes, PosixFileSystem()->ReadFile(path));
    cook.Run(bytes, operations, &out);
  }
  return WriteFileDurably(PosixFileSystem(), file, out);
}

int Main(const std::vector<std::string>& args) {
  int64_t size = 64;
  bool operations = false;
  FlagParser flags("weft_cook_images", "LIST OUT [flags]", "Writes what Weft makes of pictures.");
  flags.Int("size", &size, "side of the planes");
  flags.Bool("operations", &operations, "also what each pixel operation makes of them");
  flags.Positional(2, 2);
  ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  const Status status =
      Run(parsed.positional[0], parsed.positional[1], static_cast<int>(size), operations);
  return status.ok() ? 0 : ReportError("weft_cook_images", status);
}

}  // namespace
}  // namespace weft

int main(int argc, char** argv) { return weft::Main({argv + 1, argv + argc}); }
