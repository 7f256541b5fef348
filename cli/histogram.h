// Histograms drawn with characters.
//
// Thread rule: pure functions.
#pragma once

#include <string>
#include <vector>

namespace weft {

enum class HistogramUnit { kNumber, kBytes };

// A head line with count, mean and percentiles, and a bar a bin. Bins are equally wide; where values spread over more than
// a factor of 100 they grow by a factor instead. Nothing to draw: one line that says so.
std::string DrawHistogram(const std::string& title, std::vector<double> values, HistogramUnit unit);
void PrintHistogram(const std::string& title, const std::vector<double>& values,
                    HistogramUnit unit);

}  // namespace weft
