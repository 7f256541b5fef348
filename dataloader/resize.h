// Antialiased separable resize of a box of an RGB image into u8 planes, in fixed point: the same bytes on every machine.
// The arithmetic is that of Pillow's 8-bit resample (filter support scaled with the reduction, weights rounded to 22 bits,
// horizontal pass first, each pass rounded to 8 bits), so a whole-image bicubic resize equals Pillow's.
//
// Thread rule: a Resizer holds scratch memory and belongs to one thread at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "dataloader/image_decode.h"

namespace weft {

enum class ResizeFilter {
  kBicubic,  // a = -0.5
  kBox,
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

class Resizer {
 public:
  // `planes`: 3 planes of y.out_size rows of x.out_size pixels. With `flip` the columns run from right to left.
  // REQUIRES: the axes' intervals lie in the image and are not empty; begin < end.
  void ToPlanes(const Image& image, const ResizeAxis& x, const ResizeAxis& y, ResizeFilter filter,
                bool flip, uint8_t* planes);

 private:
  // Weights of the output pixels of one axis: output i = sum over j in [0, count) of weight[i * stride + j] * in[first + j].
  struct Weights {
    int stride = 0;
    std::vector<int> first;
    std::vector<int> count;
    std::vector<int32_t> values;
  };

  static void ComputeWeights(const ResizeAxis& axis, ResizeFilter filter, Weights* weights);
  void HorizontalPass(const Image& image, int row_begin, int row_end, int out_width);
  void VerticalPass(int row_begin, int out_width, int out_height, bool flip, uint8_t* planes) const;

  Weights x_;
  Weights y_;
  // Rows of interleaved RGB after the horizontal pass.
  std::vector<uint8_t> rows_;
};

// The whole image at width x height, interleaved. For packing.
Image ResizeImage(const Image& image, int width, int height, ResizeFilter filter);

}  // namespace weft
