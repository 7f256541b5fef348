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
  kNarrow,  // weights of 14 bits: within a level of exact, in less time
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
  explicit Resizer(const ResizeKernels& kernels = ChooseResizeKernels()) : kernels_(kernels) {}

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
    size_t stride = 0;
    std::vector<int> first;
    std::vector<int> count;
    std::vector<int32_t> values;
    // Inputs [begin, end) that some output looks at.
    int begin = 0;
    int end = 0;
    // The same as the kernels read them, from input `begin` on.
    QuadWeights quads;
  };

  void ComputeWeights(const ResizeAxis& axis, ResizeFilter filter, Weights* weights);
  void Pack(ResizePrecision precision, Weights* weights);
  // 16 rows, less behind the last one, to their tile.
  void FillTile(const uint8_t* rows, size_t stride, size_t num_rows, size_t columns);

  ResizeKernels kernels_;
  Weights x_;
  Weights y_;
  std::vector<double> exact_;
  std::vector<int32_t> padded_;
  // Quads of 16 rows, and where their last ones are filled up; quads of all rows after the horizontal pass.
  std::vector<uint32_t> tile_;
  std::vector<uint8_t> edge_;
  std::vector<uint32_t> rows_;
  // A plane of an interleaved image.
  std::vector<uint8_t> plane_;
};

// The whole image at width x height, interleaved. For packing.
Image ResizeImage(const Image& image, int width, int height, ResizeFilter filter);

}  // namespace weft
