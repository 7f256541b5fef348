// libspng: PNGs of every kind to RGBA, and the texts in them.
//
// Errors: Corruption (broken bytes, wrong checksums), InvalidArgument (too large). Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/image_header.h"

namespace weft {

// Pixels of 4 bytes R, G, B, A, without padding; 16 bits are cut to 8. Returns the size.
StatusOr<ImageInfo> DecodePng(std::string_view bytes, std::vector<uint8_t>* rgba);

// The texts in a PNG (tEXt, zTXt, iTXt): keyword and text as stored, in the file's order.
StatusOr<std::vector<std::pair<std::string, std::string>>> ReadPngTexts(std::string_view bytes);

}  // namespace weft
