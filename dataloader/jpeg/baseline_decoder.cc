#include "dataloader/jpeg/baseline_decoder.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace weft::jpeg {
namespace {

int CeilDiv(int a, int b) { return (a + b - 1) / b; }

// A group whose blocks have nothing but a mean: `size` rows of 4 * size samples.
void FillFlat(const int16_t* coefficients, const GroupQuant& quant, size_t size, uint8_t* out,
              size_t stride) {
  for (size_t block = 0; block < 4; ++block) {
    const int mean = coefficients[8 * block] * quant[0];
    const auto sample = static_cast<uint8_t>(std::clamp(((mean + 4) >> 3) + 128, 0, 255));
    for (size_t y = 0; y < size; ++y) std::memset(out + y * stride + block * size, sample, size);
  }
}

}  // namespace

bool BaselineDecoder::Open(std::string_view bytes) {
  bytes_ = bytes;
  return ParseHeader(bytes, &header_);
}

BaselineDecoder::McuBox BaselineDecoder::NeededMcus(const Box& box) const {
  McuBox mcus{INT32_MAX, INT32_MAX, 0, 0};
  for (int c = 0; c < num_planes(); ++c) {
    // Upsampling looks at one more sample on each side.
    const bool subsampled = c > 0 && (step_x_ > 1 || step_y_ > 1);
    const int step_x = c > 0 ? step_x_ : 1;
    const int step_y = c > 0 ? step_y_ : 1;
    const int border = subsampled ? 1 : 0;
    const Component& component = header_.components[static_cast<size_t>(c)];
    const int mcu_width = component.h * block_size_[static_cast<size_t>(c)];
    const int mcu_height = component.v * block_size_[static_cast<size_t>(c)];
    mcus.left = std::min(mcus.left, std::max(0, box.left / step_x - border) / mcu_width);
    mcus.top = std::min(mcus.top, std::max(0, box.top / step_y - border) / mcu_height);
    mcus.right = std::max(mcus.right, ((box.right - 1) / step_x + border) / mcu_width + 1);
    mcus.bottom = std::max(mcus.bottom, ((box.bottom - 1) / step_y + border) / mcu_height + 1);
  }
  mcus.right = std::min(mcus.right, entropy_.mcus_x());
  mcus.bottom = std::min(mcus.bottom, entropy_.mcus_y());
  return mcus;
}

void BaselineDecoder::LayOut(int c, const McuBox& mcus) {
  const auto i = static_cast<size_t>(c);
  const Component& component = header_.components[i];
  const Component& first = header_.components[0];
  const int blocks = entropy_.mcus_x() * component.h;
  const int size = block_size_[i];
  Plane& plane = planes_[i];
  plane.stride = static_cast<size_t>(CeilDiv(blocks, BlockRows::kGroup) * BlockRows::kGroup * size);
  plane.top = mcus.top * component.v * size;
  plane.width = CeilDiv(header_.width * component.h * size, first.h * 8);
  plane.height = CeilDiv(header_.height * component.v * size, first.v * 8);
  const size_t rows = static_cast<size_t>((mcus.bottom - mcus.top) * component.v * size);
  // Grows only: a decoder keeps what its largest picture took.
  if (samples_[i].size() < rows * plane.stride) samples_[i].resize(rows * plane.stride);
  plane.rows = samples_[i].data();
  row_[i].Resize(component.v, blocks);
}

void BaselineDecoder::Transform(int c, int mcu_row, const McuBox& mcus) {
  const auto i = static_cast<size_t>(c);
  const Component& component = header_.components[i];
  const auto size = static_cast<size_t>(block_size_[i]);
  const Plane& plane = planes_[i];
  const int begin = mcus.left * component.h / BlockRows::kGroup;
  const int end = CeilDiv(mcus.right * component.h, BlockRows::kGroup);
  for (int line = 0; line < component.v; ++line) {
    const auto y = static_cast<size_t>((mcu_row - mcus.top) * component.v + line) * size;
    uint8_t* out = samples_[i].data() + y * plane.stride;
    for (int group = begin; group < end; ++group) {
      uint8_t* samples = out + static_cast<size_t>(group) * BlockRows::kGroup * size;
      const uint8_t* extents = row_[i].extents(line, group);
      const int extent = *std::max_element(extents, extents + BlockRows::kGroup);
      const int16_t* coefficients = row_[i].group(line, group);
      if (extent <= 1) {
        FillFlat(coefficients, quant_[i], size, samples, plane.stride);
      } else {
        idct_[i](coefficients, quant_[i], extent, samples, plane.stride);
      }
    }
  }
}

void BaselineDecoder::ChooseShrink(int shrink) {
  const Component& first = header_.components[0];
  // libjpeg-turbo's choice: rather a larger transform than upsampling.
  const bool halved = first.h == 2 && first.v == 2 && shrink > 1;
  shrink_ = shrink;
  chroma_shrink_ = halved ? shrink / 2 : shrink;
  step_x_ = halved ? 1 : first.h;
  step_y_ = halved ? 1 : first.v;
}

bool BaselineDecoder::Decode(int shrink, const Box& box) {
  ChooseShrink(shrink);
  if (!entropy_.Start(header_, bytes_)) return false;
  for (size_t c = 0; c < static_cast<size_t>(num_planes()); ++c) {
    const int own = c == 0 ? shrink_ : chroma_shrink_;
    block_size_[c] = 8 / own;
    quant_[c] = MakeGroupQuant(header_.quant[static_cast<size_t>(header_.components[c].quant)]);
    idct_[c] = idcts_[static_cast<size_t>(std::countr_zero(static_cast<unsigned>(own)))];
  }
  const McuBox mcus = NeededMcus(box);
  for (int c = 0; c < num_planes(); ++c) LayOut(c, mcus);
  for (int y = 0; y < mcus.bottom; ++y) {
    if (y < mcus.top) {
      if (!entropy_.DecodeRow(0, 0, nullptr)) return false;
      continue;
    }
    for (int c = 0; c < num_planes(); ++c) {
      const int h = header_.components[static_cast<size_t>(c)].h;
      row_[static_cast<size_t>(c)].Clear(mcus.left * h / BlockRows::kGroup,
                                         CeilDiv(mcus.right * h, BlockRows::kGroup));
    }
    if (!entropy_.DecodeRow(mcus.left, mcus.right, &row_)) return false;
    for (int c = 0; c < num_planes(); ++c) Transform(c, y, mcus);
  }
  return mcus.bottom < entropy_.mcus_y() || entropy_.AtSegmentEnd();
}

}  // namespace weft::jpeg
