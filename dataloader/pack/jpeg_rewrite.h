// Progressive JPEGs as baseline ones, through their coefficients: the same pixels, decoded in a quarter of the time.
//
// Errors: Corruption (no JPEG, or a broken one). Thread rule: pure functions.
#pragma once

#include <string>
#include <string_view>

#include "cluster/base/status.h"

namespace weft {

// Whether the bytes are a JPEG whose frame is progressive.
bool IsProgressiveJpeg(std::string_view bytes);

// Same coefficients and quantization, one scan, optimised Huffman tables. EXIF and colour profile (APP1, APP2) stay.
StatusOr<std::string> ToBaselineJpeg(std::string_view bytes);

}  // namespace weft
