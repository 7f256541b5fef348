#include "cli/histogram.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "cluster/base/text.h"

namespace weft {
namespace {

constexpr size_t kBins = 12;
constexpr size_t kBarCells = 40;

std::string Shown(double value, HistogramUnit unit) {
  if (unit == HistogramUnit::kBytes) return HumanBytes(value);
  char text[32];
  std::snprintf(text, sizeof text, value < 10 && value != std::floor(value) ? "%.1f" : "%.0f",
                value);
  return text;
}

// A bar in eighths of a cell.
std::string Bar(double share) {
  constexpr const char* kEighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const auto eighths = static_cast<size_t>(std::lround(share * kBarCells * 8));
  std::string bar;
  for (size_t i = 0; i < eighths / 8; ++i) bar += "█";
  return bar + kEighths[eighths % 8];
}

// Lower edges of the bins, and the upper edge of the last.
std::vector<double> Edges(double low, double high) {
  std::vector<double> edges;
  const bool by_factor = low > 0 && high / low > 100;
  for (size_t i = 0; i <= kBins; ++i) {
    const double part = static_cast<double>(i) / kBins;
    edges.push_back(by_factor ? low * std::pow(high / low, part) : low + (high - low) * part);
  }
  return edges;
}

}  // namespace

std::string DrawHistogram(const std::string& title, std::vector<double> values,
                          HistogramUnit unit) {
  if (values.empty()) return "\n" + title + ": none\n";
  std::sort(values.begin(), values.end());
  const auto percentile = [&values](size_t p) { return values[(values.size() - 1) * p / 100]; };
  const double mean =
      std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  std::string text = "\n" + title + ": mean " + Shown(mean, unit);
  for (const size_t p : {size_t{0}, size_t{5}, size_t{50}, size_t{95}, size_t{99}, size_t{100}}) {
    const std::string name = p == 0 ? "least" : p == 100 ? "most" : "p" + std::to_string(p);
    text += ", " + name + " " + Shown(percentile(p), unit);
  }
  text += "\n";
  if (values.front() == values.back()) return text;
  const std::vector<double> edges = Edges(values.front(), values.back());
  std::vector<size_t> counts(kBins);
  for (const double value : values) {
    const auto above = std::upper_bound(edges.begin(), edges.end(), value) - edges.begin();
    ++counts[static_cast<size_t>(std::clamp<std::ptrdiff_t>(above - 1, 0, kBins - 1))];
  }
  const auto most = static_cast<double>(*std::max_element(counts.begin(), counts.end()));
  for (size_t i = 0; i < kBins; ++i) {
    char line[64];
    std::snprintf(line, sizeof line, "%12s %9zu ", Shown(edges[i], unit).c_str(), counts[i]);
    text += line + Bar(static_cast<double>(counts[i]) / most) + "\n";
  }
  return text;
}

void PrintHistogram(const std::string& title, const std::vector<double>& values,
                    HistogramUnit unit) {
  std::fputs(DrawHistogram(title, values, unit).c_str(), stdout);
}

}  // namespace weft
