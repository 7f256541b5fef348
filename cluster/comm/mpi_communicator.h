// Ranks as processes that OpenMPI started: for fabrics that its transports know, and for sites that have only mpirun. Pointers are
// memory of the CPU.
//
// Each rank is one process of MPI_COMM_WORLD. Ranks are renumbered in the coordinator's order by MPI_Comm_split, which also makes
// the axes of a mesh. Sums are taken in rank order, with the same bits as tcp (mpi_collectives.h says what MPI does by itself and
// what not); ranks that disagree, fail or abort tell their peers (mpi_queue.h); no wait is without a deadline (mpi_process.h).
//
// OpenMPI cannot lose a rank and cannot start twice in a process: a failure on any axis ends all axes of the process, and the next
// generation wants new processes from a new mpirun.
//
// Errors: InvalidArgument (not started by mpirun, another number of ranks, no OpenMPI), DeadlineExceeded for ranks that do not come,
// Unavailable names the rank that gave up. Thread rule: communicator.h's.
#pragma once

#include <memory>
#include <string>

#include "cluster/base/clock.h"
#include "cluster/base/status.h"
#include "cluster/comm/communicator.h"
#include "cluster/comm/flight_recorder.h"
#include "cluster/comm/mesh_communicators.h"

namespace weft {

struct MpiOptions {
  // In the coordinator's order; the number in MPI_COMM_WORLD may be another.
  int rank = 0;
  int size = 1;
  // For MPI_Init and the connecting.
  Duration timeout = std::chrono::seconds(60);
  // Optional; must outlive the communicator.
  FlightRecorder* recorder = nullptr;
};

// One communicator over all ranks. Once a process; all ranks call it at about the same time.
StatusOr<std::unique_ptr<Communicator>> ConnectMpi(const MpiOptions& options);

// One communicator an axis of more than one rank, made in the order dp, tp, pp. Likewise.
StatusOr<MeshCommunicators> ConnectMpiMesh(const ParallelDims& dims, const MpiOptions& world);

}  // namespace weft
