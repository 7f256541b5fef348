// OpenMPI's functions, found when they are wanted: libmpi is opened by name, not linked. A site's MPI belongs to its mpirun and
// its network, so it cannot be brought along; and a worker that does not use MPI starts where there is none. Any OpenMPI with
// the ABI of libmpi.so.40 fits (4.x, 5.x).
//
// Requests: what is under way between a post and its end, and how it is tested; nothing here blocks.
//
// Errors: InvalidArgument (no libmpi), Internal with MPI's words. Thread rule: one thread makes all calls (mpi_process.h).
#pragma once

#include <mpi.h>

#include <cstddef>
#include <string>
#include <vector>

#include "cluster/base/status.h"

namespace weft::mpi {

struct Calls {
  static StatusOr<Calls> Load();
  // OK for MPI_SUCCESS; "what: MPI's words".
  Status From(int result, const std::string& what) const;

  decltype(&MPI_Init_thread) init_thread = nullptr;
  decltype(&MPI_Initialized) initialized = nullptr;
  decltype(&MPI_Finalize) finalize = nullptr;
  decltype(&MPI_Comm_size) comm_size = nullptr;
  decltype(&MPI_Comm_split) comm_split = nullptr;
  decltype(&MPI_Comm_set_errhandler) comm_set_errhandler = nullptr;
  decltype(&MPI_Error_string) error_string = nullptr;
  decltype(&MPI_Isend) isend = nullptr;
  decltype(&MPI_Irecv) irecv = nullptr;
  decltype(&MPI_Test) test = nullptr;
  decltype(&MPI_Cancel) cancel = nullptr;
  decltype(&MPI_Get_count) get_count = nullptr;
  decltype(&MPI_Ibcast) ibcast = nullptr;
  decltype(&MPI_Iallgather) iallgather = nullptr;
  decltype(&MPI_Iallgatherv) iallgatherv = nullptr;
  decltype(&MPI_Iallreduce) iallreduce = nullptr;
  decltype(&MPI_Ireduce_scatter_block) ireduce_scatter_block = nullptr;

  MPI_Comm world = nullptr;
  MPI_Datatype byte = nullptr;
  MPI_Datatype int64 = nullptr;
  MPI_Datatype uint8 = nullptr;
  MPI_Op sum = nullptr;
  MPI_Op max = nullptr;
  MPI_Request no_request = nullptr;
  MPI_Errhandler errors_return = nullptr;
};

// Point-to-point messages of one communicator that must not be taken for each other.
enum Tag : int { kFrameTag = 1, kLaneTag = 2, kExchangeTag = 3 };

// Requests of one communicator that are waited for together.
class Requests {
 public:
  Requests(const Calls* calls, MPI_Comm comm) : calls_(calls), comm_(comm) {}

  // Any number of bytes: in pieces that MPI's int counts can tell.
  Status Send(int peer, const void* data, size_t bytes, Tag tag);
  Status Receive(int peer, void* data, size_t bytes, Tag tag);
  // A request that the caller has posted, with what came of it.
  Status Add(int result, MPI_Request request, const std::string& what);
  // Whether all are done; those that are done are gone. Another length than expected is FailedPrecondition.
  StatusOr<bool> Test();

  MPI_Comm comm() const { return comm_; }

 private:
  struct Pending {
    MPI_Request request;
    int peer = -1;
    int expected = -1;  // bytes, of a receive
  };

  const Calls* calls_;
  MPI_Comm comm_;
  std::vector<Pending> pending_;
};

}  // namespace weft::mpi
