// Ranks as processes that mpirun starts. As in process_world.h, each rank is the test binary, executed anew with a filter for the
// current test: it runs the test up to RunUnderMpirun, runs the body, reports and exits; what stands after it runs in the test
// only. At most one call a test.
//
// Thread rule: the test's thread.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "cluster/base/status.h"
#include "tests/support/sanitizers.h"

namespace weft::testing {

struct MpiRun {
  // What the body returned, by its number in MPI_COMM_WORLD; Internal where a rank ended without a word.
  std::vector<Status> ranks;
  int exit_code = 0;
  // Of mpirun and all ranks.
  std::string output;

  // The first rank whose status is not OK, with the output.
  Status FirstFailure() const;
};

// `body` gets the rank's number in MPI_COMM_WORLD.
MpiRun RunUnderMpirun(int size, const std::function<Status(int)>& body,
                      std::chrono::seconds timeout = std::chrono::seconds(60 * kTimeScale));

// What mpirun wants to run as root, with more ranks than cores: "NAME=value" each.
std::vector<std::string> MpirunEnvironment();

}  // namespace weft::testing
