// Ranks with GPUs over a backend for the host's memory (tcp, mpi): for GPUs that NCCL cannot connect, as two ranks on one, and for
// sites without it. Buffers are device memory; each operation copies them to pinned memory of the host, lets the backend work
// there, and copies what came back. Sums, their order and the news of failures are the backend's.
//
// A call waits on the host until the caller's stream has made what is to be sent. Wait waits on the host for the peers; with
// OpOptions.stream the copy back is only put on the stream. So communication goes beside what the stream has got already, and
// the host is held up more than by nccl. Pinned buffers are kept and used again.
//
// Errors: the backend's; Unavailable with CUDA's own words; DeadlineExceeded where the caller's stream did not come to the
// operation. Thread rule: communicator.h's.
#pragma once

#include <memory>

#include "cluster/base/status.h"
#include "cluster/comm/communicator.h"

namespace weft {

// `device`: CUDA's number of the GPU whose memory the buffers are.
StatusOr<std::unique_ptr<Communicator>> StageThroughHost(std::unique_ptr<Communicator> host,
                                                         int device);

}  // namespace weft
