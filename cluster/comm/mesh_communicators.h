// The communicators of one rank of a layout: one for each axis of more than one rank, over the ranks of Mesh::Group in its order.
//
// All ranks make them in the same order (dp, tp, pp), so nobody waits for somebody who waits for him. A rank connects only to
// the ranks of its own groups: for (dp, tp, pp) = (64, 8, 4) that is 63 + 7 + 3, not 2047. A group is called after its axis
// and its first rank: "tp.6". Messages call ranks by their numbers in the world.
//
// Errors: as ConnectTcp, with the group. A rank that dies fails each communicator that it is in, and no other: whoever hears of
// it ends its other axes too (Abort), so that all ranks hear. Thread rule: communicator.h's.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/comm/communicator.h"
#include "cluster/comm/tcp_communicator.h"
#include "cluster/topology/mesh.h"

namespace weft {

struct MeshCommunicators {
  // Null where the axis has one rank.
  std::unique_ptr<Communicator> dp;
  std::unique_ptr<Communicator> tp;
  std::unique_ptr<Communicator> pp;

  std::unique_ptr<Communicator>& Of(Axis axis);
  // dp, tp, pp without the null ones.
  std::vector<Communicator*> All() const;

  void Abort(const Status& reason);
  // The failure of the first axis that has one, in the order dp, tp, pp; or OK.
  Status failure() const;
  // "tp: all_reduce mlp #3, waiting for rank 5; pp: ...": what is under way on all axes; "" if nothing is.
  std::string CurrentOperation() const;
};

// "tp.6": the group of `rank` along `axis`.
std::string GroupName(const Mesh& mesh, Axis axis, int rank);

// `world`: as for one communicator over all ranks, with their endpoints by rank in the world; world_ranks, group and
// other_groups are set here. Its timeout is for all axes together. All ranks call it at about the same time.
StatusOr<MeshCommunicators> ConnectMesh(const ParallelDims& dims, const TcpOptions& world,
                                        Listener& listener);

// The same for ranks as threads of one process; by rank. `recorders`: by rank, or empty; they must outlive the communicators.
StatusOr<std::vector<MeshCommunicators>> MakeInProcessMesh(
    const ParallelDims& dims, const std::vector<FlightRecorder*>& recorders = {});

}  // namespace weft
