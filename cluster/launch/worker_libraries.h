// Where the worker finds LibTorch. A worker that was built here knows by itself; one of a bundle (a file BUNDLE beside its bin/)
// comes without, and is given a library path: LIBTORCH_ROOT, else the torch of the python3 in PATH, with the CUDA libraries that
// it wants.
//
// Errors: InvalidArgument, for no LibTorch or another version. Thread rule: any thread; it may take a second (python3).
#pragma once

#include <string>

#include "cluster/base/status.h"

namespace weft {

// LD_LIBRARY_PATH for `worker_program`; empty: it needs none.
StatusOr<std::string> WorkerLibraryPath(const std::string& worker_program);

// The version of the LibTorch in `root`, a folder with include/ and lib/ ("2.11.0"); empty: none there.
std::string LibTorchVersion(const std::string& root);

}  // namespace weft
