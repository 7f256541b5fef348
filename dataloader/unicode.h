// The little of Unicode that captions need, on UTF-8 strings. Bytes that are no UTF-8 become U+FFFD.
//
// Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace weft {

void AppendUtf8(uint32_t code_point, std::string* out);
// The code point at `*position`, which moves past it. REQUIRES: *position < text.size().
uint32_t NextCodePoint(std::string_view text, size_t* position);

bool IsValidUtf8(std::string_view text);
std::string Latin1ToUtf8(std::string_view text);

bool IsLetter(uint32_t code_point);  // \p{L}
bool IsNumber(uint32_t code_point);  // \p{N}
bool IsSpace(uint32_t code_point);   // \s as Python has it

// Composed form (NFC).
std::string ToNfc(std::string_view text);
// Each code point by its simple mapping ("İ" becomes "i", a final sigma stays a sigma).
std::string ToLower(std::string_view text);
// Runs of white space become one space; none at the ends.
std::string CollapseSpaces(std::string_view text);

}  // namespace weft
