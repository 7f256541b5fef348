#include "dataloader/jpeg/jpeg_header.h"

#include <algorithm>
#include <cstring>

namespace weft::jpeg {

const std::array<uint8_t, 64> kZigzag = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
    30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};

namespace {

// Sizes of coefficients in 8-bit baseline files.
constexpr int kMaxDcSize = 11;
constexpr int kMaxAcSize = 10;

using Segment = std::basic_string_view<unsigned char>;

// The body of the marker segment at `at`, whose two length bytes come first. Empty: it is cut off.
Segment Body(Segment bytes, size_t at) {
  if (at + 2 > bytes.size()) return {};
  const size_t length = static_cast<size_t>(bytes[at]) << 8 | bytes[at + 1];
  if (length <= 2 || at + length > bytes.size()) return {};
  return bytes.substr(at + 2, length - 2);
}

bool ReadQuant(Segment body, Header* header) {
  for (; !body.empty(); body.remove_prefix(65)) {
    if (body.size() < 65 || body[0] > 3) return false;  // steps of 16 bits count as > 3
    for (size_t i = 0; i < 64; ++i) header->quant[body[0]][kZigzag[i]] = body[1 + i];
    header->has_quant[body[0]] = true;
  }
  return true;
}

// Codes must fit into their lengths, and none may be all ones.
bool CodesFit(const HuffmanSpec& spec) {
  uint32_t code = 0;
  for (int bits = 1; bits <= 16; ++bits) {
    code += spec.counts[static_cast<size_t>(bits - 1)];
    if (code >= (1u << bits)) return false;
    code <<= 1;
  }
  return true;
}

bool ReadHuffman(Segment body, Header* header) {
  while (!body.empty()) {
    if (body.size() < 17) return false;
    const unsigned kind = body[0] >> 4;
    const unsigned index = body[0] & 15;
    if (kind > 1 || index > 3) return false;
    HuffmanSpec spec;
    for (size_t i = 0; i < 16; ++i) {
      spec.counts[i] = body[1 + i];
      spec.num_symbols += body[1 + i];
    }
    const auto count = static_cast<size_t>(spec.num_symbols);
    if (count == 0 || count > 256 || body.size() < 17 + count || !CodesFit(spec)) return false;
    std::copy_n(body.data() + 17, count, spec.symbols.data());
    for (size_t i = 0; i < count; ++i) {
      const int size = kind == 0 ? spec.symbols[i] : spec.symbols[i] & 15;
      if (size > (kind == 0 ? kMaxDcSize : kMaxAcSize)) return false;
    }
    (kind == 0 ? header->dc : header->ac)[index] = spec;
    body.remove_prefix(17 + count);
  }
  return true;
}

bool SupportedSampling(Header* header) {
  auto& components = header->components;
  if (header->num_components == 1) {
    // A single component is not interleaved: its factors mean nothing.
    components[0].h = 1;
    components[0].v = 1;
    return true;
  }
  const int h = components[0].h;
  const int v = components[0].v;
  if (!((h == 1 && v == 1) || (h == 2 && v == 1) || (h == 2 && v == 2))) return false;
  return components[1].h == 1 && components[1].v == 1 && components[2].h == 1 &&
         components[2].v == 1;
}

bool ReadFrame(Segment body, Header* header) {
  if (header->num_components != 0 || body.size() < 9 || body[0] != 8) return false;
  header->height = body[1] << 8 | body[2];
  header->width = body[3] << 8 | body[4];
  header->num_components = body[5];
  if (header->width < 1 || header->height < 1) return false;
  if (header->num_components != 1 && header->num_components != 3) return false;
  if (body.size() != 6 + 3 * static_cast<size_t>(header->num_components)) return false;
  for (size_t c = 0; c < static_cast<size_t>(header->num_components); ++c) {
    const unsigned char* p = body.data() + 6 + 3 * c;
    Component& component = header->components[c];
    component.id = p[0];
    component.h = p[1] >> 4;
    component.v = p[1] & 15;
    component.quant = p[2];
    if (component.h < 1 || component.h > 4 || component.v < 1 || component.v > 4) return false;
    if (component.quant > 3) return false;
    for (size_t before = 0; before < c; ++before)
      if (header->components[before].id == component.id) return false;
  }
  return SupportedSampling(header);
}

bool ReadScan(Segment body, Header* header) {
  const auto count = static_cast<size_t>(header->num_components);
  if (count == 0 || body.size() != 4 + 2 * count || body[0] != count) return false;
  for (size_t c = 0; c < count; ++c) {
    Component& component = header->components[c];
    component.dc = body[2 + 2 * c] >> 4;
    component.ac = body[2 + 2 * c] & 15;
    if (body[1 + 2 * c] != component.id || component.dc > 3 || component.ac > 3) return false;
    if (header->dc[static_cast<size_t>(component.dc)].num_symbols == 0) return false;
    if (header->ac[static_cast<size_t>(component.ac)].num_symbols == 0) return false;
    if (!header->has_quant[static_cast<size_t>(component.quant)]) return false;
  }
  const unsigned char* spectral = body.data() + 1 + 2 * count;
  return spectral[0] == 0 && spectral[1] == 63 && spectral[2] == 0;
}

// What the application segments say about the colours.
struct ColourMarks {
  bool jfif = false;
  bool adobe = false;
  int transform = 0;
};

bool ReadColourMark(unsigned marker, Segment body, ColourMarks* marks) {
  if (marker == 0xE0 && body.size() >= 14 && std::memcmp(body.data(), "JFIF", 5) == 0) {
    marks->jfif = true;
    return body[5] == 1;  // libjpeg-turbo warns of other versions
  }
  if (marker == 0xEE && body.size() >= 12 && std::memcmp(body.data(), "Adobe", 5) == 0) {
    marks->adobe = true;
    marks->transform = body[11];
  }
  return true;
}

bool IsYcc(const Header& header, const ColourMarks& marks) {
  if (header.num_components == 1 || marks.jfif) return true;
  if (marks.adobe) return marks.transform == 1;
  return !(header.components[0].id == 'R' && header.components[1].id == 'G' &&
           header.components[2].id == 'B');
}

}  // namespace

bool ParseHeader(std::string_view text, Header* header) {
  const Segment bytes(reinterpret_cast<const unsigned char*>(text.data()), text.size());
  *header = Header();
  ColourMarks marks;
  if (bytes.size() < 4 || bytes[0] != 0xFF || bytes[1] != 0xD8) return false;
  size_t at = 2;
  while (at + 4 <= bytes.size()) {
    if (bytes[at] != 0xFF) return false;
    const unsigned marker = bytes[at + 1];
    if (marker == 0xFF) {  // fill byte
      ++at;
      continue;
    }
    const Segment body = Body(bytes, at + 2);
    const bool application = (marker >= 0xE0 && marker <= 0xEF) || marker == 0xFE;
    // Empty application segments are fine.
    const bool empty = bytes[at + 2] == 0 && bytes[at + 3] == 2;
    if (body.empty() && !(application && empty)) return false;
    at += 4 + body.size();
    bool good = true;
    if (application) {
      good = ReadColourMark(marker, body, &marks);
    } else if (marker == 0xDB) {
      good = ReadQuant(body, header);
    } else if (marker == 0xC4) {
      good = ReadHuffman(body, header);
    } else if (marker == 0xC0 || marker == 0xC1) {
      good = ReadFrame(body, header);
    } else if (marker == 0xDD) {
      good = body.size() == 2;
      if (good) header->restart_interval = body[0] << 8 | body[1];
    } else if (marker == 0xDA) {
      header->scan_begin = at;
      return ReadScan(body, header) && IsYcc(*header, marks);
    } else {
      return false;
    }
    if (!good) return false;
  }
  return false;
}

}  // namespace weft::jpeg
