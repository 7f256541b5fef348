// What every family asks of the sizes in its recipe.
//
// Errors: InvalidArgument, naming `model.FAMILY.FIELD`. Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>

#include "cluster/base/status.h"

namespace weft {

// `family` is "model.clip".
Status CheckAllPositive(const std::string& family,
                        std::initializer_list<std::pair<const char*, int64_t>> fields);
// `part` divides `whole`.
Status CheckDivides(const std::string& family, const std::string& part_field, int64_t part,
                    const std::string& whole_field, int64_t whole);

}  // namespace weft
