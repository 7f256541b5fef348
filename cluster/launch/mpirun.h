// Starts one agent a rank by mpirun, and starts them anew whenever mpirun ends: OpenMPI cannot lose a rank, so each generation of
// a run over MPI has a launcher of its own. That the run is over is known to its owner only, who then destroys the object.
//
// Errors: logged, with where mpirun's own words are. Thread rule: an object belongs to one thread; it has another one, the
// parent of mpirun, which dies with it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cluster/base/status.h"

namespace weft {

struct MpirunOptions {
  int ranks = 1;
  // What each rank starts; argv[0] is the path of the program.
  std::vector<std::string> argv;
  // What mpirun and the agents print is appended to it.
  std::string log_path;
};

class MpirunLauncher {
 public:
  explicit MpirunLauncher(const MpirunOptions& options);
  // Waits a moment for an mpirun that ends by itself, as it does after a run; then kills it.
  ~MpirunLauncher();
  MpirunLauncher(const MpirunLauncher&) = delete;
  MpirunLauncher& operator=(const MpirunLauncher&) = delete;

 private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

// NotFound: there is no mpirun.
Status CheckMpirun();

// What `mpirun` is to be called with and in: more ranks than cores may run, nothing is bound, root is let through.
std::vector<std::string> MpirunArguments(const MpirunOptions& options);

// Whether this process was started by OpenMPI's mpirun.
bool UnderMpirun();

}  // namespace weft
