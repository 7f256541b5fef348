// Small helpers for text that people read and write.
//
// Thread rule: pure functions.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace weft {

// The candidate with the smallest edit distance to `word`; "" if none is near (more than half of the word differs).
std::string NearestName(std::string_view word, const std::vector<std::string>& candidates);

// `*` matches any run of characters (dots too), `?` one.
bool GlobMatch(std::string_view pattern, std::string_view text);

std::vector<std::string> Split(std::string_view text, char separator);
std::string Join(const std::vector<std::string>& parts, std::string_view separator);

// "1.5 GiB", "37 KiB"; "1h 02m", "3m 20s", "12.3s".
std::string HumanBytes(double bytes);
std::string HumanSeconds(double seconds);

// "a-{000..002}.tar" -> a-000.tar, a-001.tar, a-002.tar; several ranges give all combinations, the last one fastest.
// Braces that are no rising range of numbers stay as they are; so does the whole text if it stands for more than
// kMaxExpansion names.
inline constexpr size_t kMaxExpansion = 10'000'000;
std::vector<std::string> ExpandBraces(std::string_view text);

}  // namespace weft
