// Baseline JPEGs to planes of samples: only the blocks that a box of the picture needs, at 1, 1/2, 1/4 or 1/8 of its size.
//
// What it gives equals libjpeg-turbo's output with its defaults, sample for sample. False from Open or Decode means that the
// file is of another kind, or broken: ask libjpeg-turbo, which decodes it or says what is wrong. Behind the last row that the
// box needs nothing is decoded, only looked through for the end-of-image marker: a file that was cut off is never taken,
// wrong codes below the box are not seen.
// Memory: in proportion to the box and the file, not to what the header promises; callers check the size first.
// Thread rule: belongs to one thread at a time.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "dataloader/jpeg/entropy_decoder.h"
#include "dataloader/jpeg/idct.h"
#include "dataloader/jpeg/jpeg_header.h"

namespace weft::jpeg {

// Pixels [left, right) of rows [top, bottom).
struct Box {
  int left = 0;
  int top = 0;
  int right = 0;
  int bottom = 0;

  int width() const { return right - left; }
  int height() const { return bottom - top; }
};

// Samples of one component. Row y lies at rows + (y - top) * stride; those outside the decoded box are undefined.
struct Plane {
  const uint8_t* rows = nullptr;
  size_t stride = 0;
  int top = 0;
  int width = 0;
  int height = 0;

  const uint8_t* row(int y) const { return rows + static_cast<size_t>(y - top) * stride; }
};

class BaselineDecoder {
 public:
  // Reads the header; `bytes` must live until Decode is done.
  bool Open(std::string_view bytes);
  const Header& header() const { return header_; }

  // What Decode will do with this shrink: chroma_step_x() and chroma_step_y() hold from here on. REQUIRES: Open.
  void ChooseShrink(int shrink);

  // Shrinks the luma by `shrink`, and so the picture, whose sides are rounded up. 4:2:0 chroma is shrunk by half of that, as
  // long as there is something to shrink. REQUIRES: Open; `box` is in the shrunken picture and not empty.
  bool Decode(int shrink, const Box& box);

  int num_planes() const { return header_.num_components; }
  // After Decode. Chroma planes hold what the box's pixels and their neighbours need.
  const Plane& plane(int component) const { return planes_[static_cast<size_t>(component)]; }
  // Luma samples a chroma sample, horizontally and vertically: 1 or 2.
  int chroma_step_x() const { return step_x_; }
  int chroma_step_y() const { return step_y_; }
  int shrink() const { return shrink_; }

 private:
  // Rows and columns of MCUs [begin, end).
  struct McuBox {
    int left = 0;
    int top = 0;
    int right = 0;
    int bottom = 0;
  };
  void LayOut(int component, const McuBox& mcus);
  McuBox NeededMcus(const Box& box) const;
  void Transform(int component, int mcu_row, const McuBox& mcus);

  Header header_;
  std::string_view bytes_;
  EntropyDecoder entropy_;
  McuRow row_;
  int shrink_ = 1;
  int chroma_shrink_ = 1;
  int step_x_ = 1;
  int step_y_ = 1;
  std::array<int, 3> block_size_{};  // side of a transformed block
  std::array<GroupQuant, 3> quant_;
  std::array<GroupIdct, 3> idct_{};
  std::array<GroupIdct, 4> idcts_{ChooseIdct(1), ChooseIdct(2), ChooseIdct(4), ChooseIdct(8)};
  std::array<std::vector<uint8_t>, 3> samples_;
  std::array<Plane, 3> planes_;
};

}  // namespace weft::jpeg
