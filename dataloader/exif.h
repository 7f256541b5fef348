// How a picture was held: the orientation that cameras write, and pictures turned upright by it.
//
// Errors: none; what cannot be read counts as upright. Reads nothing outside the bytes that it is given. Thread rule: pure
// functions. Source: Exif 2.32, 4.6.4 (tag 0x0112) and 4.7.2; PNG's eXIf and WebP's EXIF chunk hold the same block.
#pragma once

#include <string_view>

#include "dataloader/image_decode.h"

namespace weft {

// 1 (upright) to 8, from the Exif block of a JPEG, PNG or WebP.
int ReadOrientation(std::string_view bytes);

// The stored rows are the upright picture's columns.
inline bool SwapsSides(int orientation) { return orientation >= 5; }

void TurnUpright(const Image& stored, int orientation, Image* upright);

}  // namespace weft
