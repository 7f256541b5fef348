// weft-worker bench comm --backend TCP|NCCL|MPI --device CPU|CUDA --ranks N --max-mib M --json FILE
#pragma once

namespace weft {

// Arguments after "comm". Returns the exit status.
int CommBenchMain(int argc, char** argv);

}  // namespace weft
