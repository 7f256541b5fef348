// Operations on the pixels of a small picture, in the arithmetic of the papers' code: Pillow's ImageOps and ImageEnhance for
// colours and sharpness, OpenCV's warpAffine (bilinear, 5 fraction bits, grey outside) for shear, shift and rotation.
//
// Shapes: three planes of width * height bytes, red, green and blue, changed in place.
// Thread rule: pure functions, but for Warp's scratch, which belongs to the caller.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace weft {

struct PixelPlanes {
  uint8_t* red() const { return data; }
  uint8_t* green() const { return data + pixels(); }
  uint8_t* blue() const { return data + 2 * pixels(); }
  size_t pixels() const { return static_cast<size_t>(width) * static_cast<size_t>(height); }

  uint8_t* data = nullptr;
  int width = 0;
  int height = 0;
};

// Factor 1 changes nothing, 0 leaves black, the mean grey, grey pixels, a smoothed picture.
void AdjustBrightness(double factor, const PixelPlanes& planes);
void AdjustContrast(double factor, const PixelPlanes& planes);
void AdjustSaturation(double factor, const PixelPlanes& planes);
// The outermost pixels stay as they are.
void AdjustSharpness(double factor, const PixelPlanes& planes, std::vector<uint8_t>* scratch);

// Each plane for itself: its range is widened to 0..255; its histogram is flattened.
void AutoContrast(const PixelPlanes& planes);
void Equalize(const PixelPlanes& planes);

// Where the pixel (x, y) goes: (m[0] x + m[1] y + m[2], m[3] x + m[4] y + m[5]).
using Affine = std::array<double, 6>;
Affine Rotation(double degrees, int width, int height);
void Warp(const Affine& affine, uint8_t outside, const PixelPlanes& planes,
          std::vector<uint8_t>* scratch);

}  // namespace weft
