#include "dataloader/image_decode.h"

#include <webp/decode.h>

#include <cstring>
#include <utility>

#include "dataloader/exif.h"
#include "dataloader/png_codec.h"

namespace weft {
namespace {

// c over white with coverage a, rounded: 255 - (255 - c) * a / 255.
uint8_t OverWhite(unsigned c, unsigned a) {
  const unsigned t = (255 - c) * a + 128;
  return static_cast<uint8_t>(255 - ((t + (t >> 8)) >> 8));
}

void CompositeOverWhite(const uint8_t* rgba, size_t pixels, uint8_t* rgb) {
  for (size_t i = 0; i < pixels; ++i, rgba += 4, rgb += 3) {
    rgb[0] = OverWhite(rgba[0], rgba[3]);
    rgb[1] = OverWhite(rgba[1], rgba[3]);
    rgb[2] = OverWhite(rgba[2], rgba[3]);
  }
}

void DropAlpha(const uint8_t* rgba, size_t pixels, uint8_t* rgb) {
  for (size_t i = 0; i < pixels; ++i, rgba += 4, rgb += 3) std::memcpy(rgb, rgba, 3);
}

}  // namespace

ImageDecoder::ImageDecoder(const DecodePolicy& policy) : policy_(policy), jpeg_(policy.min_rows) {}

int ImageDecoder::Orientation(std::string_view bytes) const {
  return policy_.apply_exif ? ReadOrientation(bytes) : 1;
}

StatusOr<ImageInfo> ImageDecoder::Info(std::string_view bytes) const {
  WEFT_ASSIGN_OR_RETURN(ImageInfo info, ReadImageInfo(bytes));
  if (SwapsSides(Orientation(bytes))) std::swap(info.width, info.height);
  return info;
}

Status ImageDecoder::Decode(std::string_view bytes, int shrink, Image* image) {
  WEFT_RETURN_IF_ERROR(DecodeStored(bytes, shrink, image));
  const int orientation = Orientation(bytes);
  if (orientation == 1) return OkStatus();
  TurnUpright(*image, orientation, &turned_);
  std::swap(*image, turned_);
  return OkStatus();
}

Status ImageDecoder::DecodeStored(std::string_view bytes, int shrink, Image* image) {
  WEFT_ASSIGN_OR_RETURN(const ImageInfo info, ReadImageInfo(bytes));
  switch (info.format) {
    case ImageFormat::kJpeg:
      return DecodeJpeg(bytes, info, shrink, image);
    case ImageFormat::kPng: {
      WEFT_ASSIGN_OR_RETURN(const ImageInfo png, DecodePng(bytes, &rgba_));
      TakeRgba(png.width, png.height, image);
      return OkStatus();
    }
    default:
      return DecodeWebp(bytes, info, image);
  }
}

jpeg::BaselineDecoder* ImageDecoder::OpenBaseline(std::string_view bytes) {
  if (Orientation(bytes) != 1 || !baseline_.Open(bytes)) return nullptr;
  const jpeg::Header& header = baseline_.header();
  return CheckImageSize(ImageFormat::kJpeg, header.width, header.height).ok() ? &baseline_
                                                                              : nullptr;
}

bool ImageDecoder::DecodeBaseline(std::string_view bytes, int shrink, const jpeg::Box& box,
                                  PlanarImage* image) {
  if (OpenBaseline(bytes) == nullptr || !baseline_.Decode(shrink, box)) return false;
  image->box = box;
  // Grows only: the samples are written anyway.
  if (image->samples.size() < 3 * image->pixels()) image->samples.resize(3 * image->pixels());
  colours_.ToRgb(baseline_, box, {image->plane(0), image->plane(1), image->plane(2)});
  return true;
}

Status ImageDecoder::DecodeBox(std::string_view bytes, int shrink, const jpeg::Box& box,
                               PlanarImage* image) {
  if (DecodeBaseline(bytes, shrink, box, image)) return OkStatus();
  WEFT_RETURN_IF_ERROR(Decode(bytes, shrink, &whole_));
  if (box.left < 0 || box.top < 0 || box.right > whole_.width || box.bottom > whole_.height)
    return Corruption("an image that decodes to another size than its header says");
  image->box = box;
  if (image->samples.size() < 3 * image->pixels()) image->samples.resize(3 * image->pixels());
  const auto row_bytes = 3 * static_cast<size_t>(whole_.width);
  for (size_t c = 0; c < 3; ++c) {
    uint8_t* out = image->plane(c);
    for (int y = box.top; y < box.bottom; ++y) {
      const uint8_t* in = whole_.rgb.data() + static_cast<size_t>(y) * row_bytes + c +
                          3 * static_cast<size_t>(box.left);
      for (int x = box.left; x < box.right; ++x, in += 3) *out++ = *in;
    }
  }
  return OkStatus();
}

Status ImageDecoder::DecodeJpeg(std::string_view bytes, const ImageInfo& info, int shrink,
                                Image* image) {
  const jpeg::Box box{0, 0, (info.width + shrink - 1) / shrink,
                      (info.height + shrink - 1) / shrink};
  if (DecodeBaseline(bytes, shrink, box, &planar_)) {
    image->width = box.width();
    image->height = box.height();
    const size_t pixels = planar_.pixels();
    image->rgb.resize(3 * pixels);
    for (size_t i = 0; i < pixels; ++i)
      for (size_t c = 0; c < 3; ++c) image->rgb[3 * i + c] = planar_.samples[c * pixels + i];
    return OkStatus();
  }
  return jpeg_.Decode(bytes, shrink, image);
}

void ImageDecoder::TakeRgba(int width, int height, Image* image) const {
  image->width = width;
  image->height = height;
  const size_t pixels = static_cast<size_t>(width) * static_cast<size_t>(height);
  image->rgb.resize(3 * pixels);
  (policy_.drop_alpha ? DropAlpha : CompositeOverWhite)(rgba_.data(), pixels, image->rgb.data());
}

Status ImageDecoder::DecodeWebp(std::string_view bytes, const ImageInfo& info, Image* image) {
  const size_t stride = 4 * static_cast<size_t>(info.width);
  rgba_.resize(stride * static_cast<size_t>(info.height));
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  if (WebPDecodeRGBAInto(data, bytes.size(), rgba_.data(), rgba_.size(),
                         static_cast<int>(stride)) == nullptr) {
    return Corruption("broken WebP: it does not decode");
  }
  TakeRgba(info.width, info.height, image);
  return OkStatus();
}

}  // namespace weft
