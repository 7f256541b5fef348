#include "models/spec/checks.h"

namespace weft {

Status CheckAllPositive(const std::string& family,
                        std::initializer_list<std::pair<const char*, int64_t>> fields) {
  for (const auto& [field, value] : fields) {
    if (value > 0) continue;
    return InvalidArgument(family + "." + field + ": must be set and positive, is " +
                           std::to_string(value));
  }
  return OkStatus();
}

Status CheckDivides(const std::string& family, const std::string& part_field, int64_t part,
                    const std::string& whole_field, int64_t whole) {
  if (part > 0 && whole % part == 0) return OkStatus();
  return InvalidArgument(family + "." + part_field + ": " + std::to_string(part) +
                         " does not divide " + whole_field + " " + std::to_string(whole));
}

}  // namespace weft
