// Where the unpacked Debian package openclipart-png is: named by the user, installed, in the cache, or else downloaded by
// apt-get into the cache (without installing anything).
//
// Errors: NotFound (a folder without pictures), Unavailable (no apt, no network) with what the user can do about it.
// Thread rule: one thread.
#pragma once

#include <string>

#include "cluster/base/status.h"

namespace weft {

// The folder that holds the categories. `source`: a folder given by the user, or "". `cache`: where a download is kept.
StatusOr<std::string> FindOpenclipart(const std::string& source, const std::string& cache);

}  // namespace weft
