// The same short run with ranks as processes over the backend of the layout. Each is this program, started again.
#pragma once

#include <string>

#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"
#include "tests/parity/trajectory.h"

namespace weft::testing {

// `program`: path of this executable, which calls RunChild for "--child RANK DIRECTORY".
StatusOr<Trajectory> RunAsProcesses(const std::string& program, const Recipe& recipe);

// One rank: finds recipe and peers in the directory and leaves its part there. Returns the exit status.
int RunChild(int rank, const std::string& directory);

}  // namespace weft::testing
