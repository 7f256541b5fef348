// From an encoded image to S x S planes: RandomResizedCrop, flip and colour jitter as torchvision draws them, or, for
// evaluation, resize of the shorter side and centre crop. Every draw is a function of (seed, set, epoch, sample id).
//
// Thread rule: DrawAugmentation is pure; an ImageCooker holds decoder state and scratch and belongs to one thread.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "cluster/base/philox.h"
#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"
#include "dataloader/image_decode.h"
#include "dataloader/resize.h"

namespace weft {

// Errors: InvalidArgument, naming the field of data.augment.
Status ValidateAugment(const AugmentRecipe& recipe);

// What is done to one image of one size.
struct Augmentation {
  // Resize the shorter side and cut the middle out; the crop box is not used.
  bool center = false;
  int left = 0;
  int top = 0;
  int width = 0;
  int height = 0;
  bool flip = false;
  // Factors, 1: nothing.
  double brightness = 1;
  double contrast = 1;
  double saturation = 1;
};

Augmentation DrawAugmentation(const AugmentRecipe& recipe, const KeyedRandom& random,
                              uint64_t sample_id, int width, int height);

// Brightness, then contrast, then saturation, on planes of `pixels` bytes each, in fixed point.
void JitterColors(const Augmentation& augmentation, int64_t pixels, uint8_t* planes);

class ImageCooker {
 public:
  // All write 3 * size * size bytes.
  Status CookForTraining(std::string_view bytes, const AugmentRecipe& recipe,
                         const KeyedRandom& random, uint64_t sample_id, int size, uint8_t* planes);
  Status CookForEval(std::string_view bytes, int size, uint8_t* planes);
  // The whole picture in the middle of a square of the colour (R, G, B), resized.
  Status CookPadded(std::string_view bytes, const std::array<uint8_t, 3>& colour, int size,
                    uint8_t* planes);

 private:
  Status Cook(std::string_view bytes, const ImageInfo& info, const Augmentation& augmentation,
              int size, uint8_t* planes);

  ImageDecoder decoder_;
  Resizer resizer_;
  Image image_;
  Image square_;
};

}  // namespace weft
