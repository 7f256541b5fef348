// From an encoded image to S x S planes: RandomResizedCrop, flip and colour jitter as torchvision draws them, or, for
// evaluation, resize of the shorter side and centre crop. Every draw is a function of (seed, set, epoch, sample id).
//
// Thread rule: DrawAugmentation is pure; an ImageCooker holds decoder state and scratch and belongs to one thread.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "cluster/base/philox.h"
#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"
#include "dataloader/image_decode.h"
#include "dataloader/rand_augment.h"
#include "dataloader/resize.h"

namespace weft {

// Errors: InvalidArgument, naming the field of data.augment.
Status ValidateAugment(const AugmentRecipe& recipe);

enum class Fit {
  kBox,     // the crop box
  kCentre,  // the shorter side is resized, the middle cut out
};

// What is done to one image of one size.
struct Augmentation {
  Fit fit = Fit::kBox;
  int left = 0;
  int top = 0;
  int width = 0;
  int height = 0;
  bool flip = false;
  // Factors, 1: nothing.
  double brightness = 1;
  double contrast = 1;
  double saturation = 1;
  // RandAugment's, before these.
  DrawnOps ops;
};

Augmentation DrawAugmentation(const AugmentRecipe& recipe, const KeyedRandom& random,
                              uint64_t sample_id, int width, int height);

// Brightness, then contrast, then saturation.
void JitterColors(const Augmentation& augmentation, const PixelPlanes& planes);

// The size of a picture whose shorter side becomes `shorter`, or less if the longer one would be more than `longer`, both cut
// down to multiples of `divisor`, at least one: ViLT (Kim et al. 2021) with 384, 640 and 32.
struct PictureSize {
  int width = 0;
  int height = 0;
};
PictureSize ShorterSideSize(int width, int height, int shorter, int longer, int divisor);

class ImageCooker {
 public:
  // Of the recipe: how pictures are decoded, resized and fitted for evaluation.
  explicit ImageCooker(const AugmentRecipe& recipe = {});

  // All write 3 * size * size bytes.
  Status CookForTraining(std::string_view bytes, const AugmentRecipe& recipe,
                         const KeyedRandom& random, uint64_t sample_id, int size, uint8_t* planes);
  Status CookForEval(std::string_view bytes, int size, uint8_t* planes);
  // The whole picture in the middle of a square of the colour (R, G, B), resized.
  Status CookPadded(std::string_view bytes, const std::array<uint8_t, 3>& colour, int size,
                    uint8_t* planes);
  // The whole picture at ShorterSideSize, which is returned; `planes` holds 3 * width * height bytes of it.
  StatusOr<PictureSize> CookShorterSide(std::string_view bytes, int shorter, int longer,
                                        int divisor, std::vector<uint8_t>* planes);

 private:
  // What becomes of each axis of the picture.
  struct Geometry {
    int shrink = 1;
    ResizeAxis x;
    ResizeAxis y;
    // Where the axes' origin lies in the shrunken picture.
    int left = 0;
    int top = 0;
  };

  int ChooseShrink(const ImageInfo& info, double needed, int size) const;
  Geometry Place(const ImageInfo& info, const Augmentation& augmentation, int size) const;
  Status Cook(std::string_view bytes, const ImageInfo& info, const Augmentation& augmentation,
              int size, uint8_t* planes);
  // Luma and chroma resized, then converted. False: not a JPEG for this.
  bool CookYcc(std::string_view bytes, const Geometry& geometry, bool flip, uint8_t* planes);

  ImageMode mode_;
  bool squash_;
  ImageDecoder decoder_;
  Resizer resizer_;
  Resizer chroma_resizer_;
  PlanarImage box_;
  Image image_;
  Image square_;
  std::vector<uint8_t> ycc_;
  std::vector<uint8_t> scratch_;
};

}  // namespace weft
