// Where a tensor-parallel layer stands: its place on the tp axis. A layer made with the default axis is a plain layer.
//
// Thread rule: a value; the communicator's is its own.
#pragma once

#include <string>

#include "cluster/base/clock.h"
#include "cluster/comm/communicator.h"

namespace weft {

struct TensorAxis {
  // Null: one rank. Not owned.
  Communicator* comm = nullptr;
  int rank = 0;
  int size = 1;
  // What lies between tensor-parallel layers is split by rows (sample, token), as evenly as they go.
  bool sequence = false;
  // Of each collective.
  Duration timeout = std::chrono::seconds(120);
  // cudaStream_t of the computation; null: the tensors are the host's.
  void* stream = nullptr;

  OpOptions Op(const std::string& name) const { return {name, timeout, stream}; }
};

}  // namespace weft
