// One thing that `weft selftest` looked at. Thread rule: a value.
#pragma once

#include <string>
#include <vector>

namespace weft {

struct SelfCheck {
  std::string name;
  // What was compared, and against what, for people.
  std::string what;
  // Relative, or the number of differing elements where bits are promised.
  double error = 0;
  double limit = 0;

  bool ok() const { return error <= limit; }  // false for NaN
};

}  // namespace weft
