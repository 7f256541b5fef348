// HTML character references in captions: numeric ones (decimal, hexadecimal; Windows-1252 for the C1 range) and HTML 4's 252
// names with &apos;. HTML 5 has 2,125 names; those left out are mathematical and typographic rarities and stay as they are.
//
// Thread rule: pure function.
#pragma once

#include <string>
#include <string_view>

namespace weft {

// One pass, as Python's html.unescape: "&amp;lt;" becomes "&lt;".
std::string UnescapeHtml(std::string_view text);

}  // namespace weft
