// Antialiased separable resize of a box of u8 planes, in fixed point: the same bytes on every machine.
// The arithmetic is that of Pillow's 8-bit resample (filter support scaled with the reduction, weights rounded to 22 bits,
// horizontal pass first, each pass rounded to 8 bits), so a whole-image resize equals Pillow's.
// (Pillow 13 makes the vertical pass first where the height shrinks much more than the width; this does not.)
//
// Thread rule: a Resizer holds scratch memory and belongs to one thread at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "dataloader/image_decode.h"
#include "dataloader/resize_kernels.h"

namespace weft {

enum class ResizeFilter {
  kBicubic,  // a = -0.5
  kBox,
  kBilinear,
};

enum class ResizePrecision {
  kExact,
  kNarrow,  // within a level of exact, at half the time
};

// One axis: the source interval [begin, end) becomes `full_size` pixels, of which [out_begin, out_begin + out_size) are
// computed. Source pixels outside [clip_begin, clip_end) are not looked at.
struct ResizeAxis {
  double begin = 0;
  double end = 0;
  int clip_begin = 0;
  int clip_end = 0;
  int full_size = 0;
  int out_begin = 0;
  int out_size = 0;
};

// Pixel (x, y) of a plane is at pixels[(y - top) * stride + (x - left)].
struct PlaneView {
  const uint8_t* pixels = nullptr;
  size_t stride = 0;
  int left = 0;
  int top = 0;
};

class Resizer {
 public:
  // Computes the weights for what follows. REQUIRES: the axes' intervals lie in the picture and are not empty; begin < end.
  void Plan(const ResizeAxis& x, const ResizeAxis& y, ResizeFilter filter,
            ResizePrecision precision = ResizePrecision::kExact);
  // The source pixels that the plan looks at.
  jpeg::Box needed() const;
  // One plane of y.out_size rows of x.out_size pixels. With `flip` the columns run from right to left. REQUIRES: Plan, and
  // `plane` holds needed().
  void Resize(const PlaneView& plane, bool flip, uint8_t* out);

  // Plan and the three planes of an interleaved image.
  void ToPlanes(const Image& image, const ResizeAxis& x, const ResizeAxis& y, ResizeFilter filter,
                bool flip, uint8_t* planes);

 private:
  struct Weights {
    AxisWeights View() const {
      return {first.data(), count.data(), values.data(), is_narrow ? narrow.data() : nullptr,
              stride,       first.size()};
    }

    size_t stride = 0;
    std::vector<int> first;
    std::vector<int> count;
    std::vector<int32_t> values;
    std::vector<int16_t> narrow;
    bool is_narrow = false;
    // Inputs [begin, end) that some output looks at.
    int begin = 0;
    int end = 0;
  };

  void ComputeWeights(const ResizeAxis& axis, ResizeFilter filter, Weights* weights);
  static void Narrow(Weights* weights);

  Weights x_;
  Weights y_;
  std::vector<double> exact_;
  // Rows after the horizontal pass; a tile before and after it.
  std::vector<uint8_t> rows_;
  std::vector<uint8_t> tile_in_;
  std::vector<uint8_t> tile_out_;
  // The same widened, for narrow sums.
  std::vector<int16_t> wide_tile_;
  std::vector<int16_t> wide_rows_;
  // A plane of an interleaved image.
  std::vector<uint8_t> plane_;
};

// The whole image at width x height, interleaved. For packing.
Image ResizeImage(const Image& image, int width, int height, ResizeFilter filter);

}  // namespace weft
