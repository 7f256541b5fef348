// Where an unpacked Debian package with data is: named by the user, installed, in the cache, or else downloaded by apt-get
// into the cache (without installing anything).
//
// Errors: NotFound (no folder), Unavailable (no apt, no network) with what the user can do about it.
// Thread rule: one thread.
#pragma once

#include <string>

#include "cluster/base/status.h"

namespace weft {

struct DataPackage {
  std::string name;
  // Where its data lies under the root directory: "usr/share/...".
  std::string folder;
  int megabytes = 0;
};

// The folder with the data. `source`: one given by the user, the unpacked package or the folder itself, or "". `cache`: where
// a download is kept.
StatusOr<std::string> FindPackage(const DataPackage& package, const std::string& source,
                                  const std::string& cache);

}  // namespace weft
