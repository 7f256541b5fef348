#include "cluster/base/text.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <numeric>
#include <optional>
#include <utility>

namespace weft {
namespace {

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitute = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row[b.size()];
}

std::string Format(const char* format, double value, const char* unit) {
  char text[64];
  std::snprintf(text, sizeof text, format, value, unit);
  return text;
}

// "{007..012}" at the start of `text`.
struct NumberRange {
  size_t first = 0;
  size_t last = 0;
  size_t width = 0;   // digits, filled up with zeros
  size_t length = 0;  // characters that the range takes in the text
};

std::optional<size_t> ParseNumber(std::string_view digits) {
  size_t number = 0;
  const char* const end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, number);
  if (digits.empty() || digits.size() > 9 || error != std::errc() || stop != end)
    return std::nullopt;
  return number;
}

std::optional<NumberRange> ParseRange(std::string_view text) {
  const size_t close = text.find('}');
  if (text.empty() || text[0] != '{' || close == std::string_view::npos) return std::nullopt;
  const std::string_view body = text.substr(1, close - 1);
  const size_t dots = body.find("..");
  if (dots == std::string_view::npos) return std::nullopt;
  const auto first = ParseNumber(body.substr(0, dots));
  const auto last = ParseNumber(body.substr(dots + 2));
  if (!first || !last || *first > *last) return std::nullopt;
  return NumberRange{.first = *first, .last = *last, .width = dots, .length = close + 1};
}

}  // namespace

std::string NearestName(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_distance = word.size() / 2 + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = EditDistance(word, candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

bool GlobMatch(std::string_view pattern, std::string_view text) {
  size_t p = 0;
  size_t t = 0;
  size_t star = std::string_view::npos;
  size_t star_text = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_text = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++star_text;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

std::vector<std::string> Split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  while (true) {
    const size_t end = text.find(separator, begin);
    parts.emplace_back(text.substr(begin, end == std::string_view::npos ? end : end - begin));
    if (end == std::string_view::npos) return parts;
    begin = end + 1;
  }
}

std::string Join(const std::vector<std::string>& parts, std::string_view separator) {
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) text += separator;
    text += parts[i];
  }
  return text;
}

std::string HumanBytes(double bytes) {
  static const char* const kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < std::size(kUnits)) {
    bytes /= 1024;
    ++unit;
  }
  return Format(unit == 0 || bytes >= 100 ? "%.0f %s" : "%.1f %s", bytes, kUnits[unit]);
}

std::string HumanSeconds(double seconds) {
  if (seconds < 100) return Format("%.1f%s", seconds, "s");
  const auto whole = static_cast<long long>(seconds + 0.5);
  char text[64];
  if (whole < 3600) {
    std::snprintf(text, sizeof text, "%lldm %02llds", whole / 60, whole % 60);
  } else {
    std::snprintf(text, sizeof text, "%lldh %02lldm", whole / 3600, whole / 60 % 60);
  }
  return text;
}

std::vector<std::string> ExpandBraces(std::string_view text) {
  std::vector<std::string> names = {""};
  for (size_t i = 0; i < text.size();) {
    const auto range = ParseRange(text.substr(i));
    if (!range) {
      for (std::string& name : names) name += text[i];
      ++i;
      continue;
    }
    i += range->length;
    const size_t count = range->last - range->first + 1;
    if (count > kMaxExpansion / names.size()) return {std::string(text)};
    std::vector<std::string> longer;
    longer.reserve(names.size() * count);
    for (const std::string& name : names) {
      for (size_t n = range->first; n <= range->last; ++n) {
        const std::string digits = std::to_string(n);
        longer.push_back(
            name + std::string(range->width - std::min(range->width, digits.size()), '0') + digits);
      }
    }
    names = std::move(longer);
  }
  return names;
}

}  // namespace weft
