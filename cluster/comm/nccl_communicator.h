// The calls of an nccl communicator: what nccl_connect.h says of them. Not for others.
#pragma once

#include <memory>

#include "cluster/base/status.h"
#include "cluster/comm/nccl_calls.h"
#include "cluster/comm/nccl_connect.h"
#include "cluster/comm/nccl_family.h"

namespace weft::nccl {

// Over `communication`, which was split from `parent` (or null) and is of options.size ranks; makes the lanes, so all ranks call
// it at about the same time. A failure ends all of the family.
StatusOr<std::unique_ptr<Communicator>> OpenCommunicator(
    const NcclOptions& options, std::shared_ptr<Communication> communication,
    std::shared_ptr<Communication> parent, std::shared_ptr<Family> family, TimePoint deadline);

}  // namespace weft::nccl
