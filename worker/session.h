// All state of one generation in this process: communicator, model, optimizer, data. Made from a Start message and
// destroyed as a whole; a process may make one after the other, so that recovery in place stays possible.
//
// Errors of Create: InvalidArgument for a recipe, data or checkpoint that does not fit (restarting cannot help); Unavailable
// and DeadlineExceeded for peers that do not come.
// Thread rule: the training thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "checkpoint/manifest.pb.h"
#include "cluster/base/file_system.h"
#include "cluster/base/status.h"
#include "cluster/comm/mesh_communicators.h"
#include "cluster/comm/tcp_communicator.h"
#include "cluster/config/recipe.pb.h"
#include "cluster/rpc/control.pb.h"
#include "dataloader/loader.h"
#include "dataloader/process/ring_loader.h"
#include "worker/batch_stream.h"
#include "worker/rank_state.h"

namespace weft {

class Session {
 public:
  // `listener` is where the peers of start.endpoints() find this rank; `seat` its place in the node's loader, if there is
  // one; `fs` outlives the session.
  static StatusOr<std::unique_ptr<Session>> Create(const control::Start& start,
                                                   const control::Token& token, Listener* listener,
                                                   std::optional<LoaderSeat> seat, FileSystem* fs);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  const Recipe& recipe() const { return recipe_; }
  int rank() const { return rank_; }
  // Steps that are done.
  int64_t first_step() const { return first_step_; }

  RankState& rank_state() { return *state_; }
  ParallelContext& parallel() { return state_->parallel(); }
  ParameterStore& parameters() { return state_->parameters(); }
  Model& model() { return state_->model(); }
  AdamW& optimizer() { return state_->optimizer(); }
  BatchStream& batches() { return *batches_; }

  // What a checkpoint says besides tensors, after `step` steps. The same on all ranks.
  checkpoint::TrainState TrainStateAt(int64_t step) const;
  // How the loader, and an EvalSet, are to be opened.
  LoaderOptions MakeLoaderOptions() const;
  // "dp: all_to_all grads.exchange #812"; "" between collectives.
  std::string CurrentOperation() const;
  // Ends the operations of every axis, so that peers on all of them hear of a failure.
  void Abort(const Status& reason) { communicators_.Abort(reason); }
  // The last operations of all its communicators.
  const FlightRecorder& flight_recorder() const { return flight_recorder_; }

 private:
  explicit Session(Recipe recipe) : recipe_(std::move(recipe)) {}
  Status Connect(const control::Start& start, const control::Token& token, Listener* listener);
  Status BuildModel();
  // From the manifest of `start`, else from init and init_from.
  Status Restore(const control::Start& start, FileSystem* fs);
  Status ResumeFrom(const checkpoint::Manifest& manifest, const std::string& checkpoint_dir,
                    FileSystem* fs);
  Status OpenData(const checkpoint::DataCursor* cursor);
  // From the node's loader, or with threads of its own.
  StatusOr<std::unique_ptr<Loader>> OpenLoader(const LoaderOptions& options) const;

  Recipe recipe_;
  int rank_ = 0;
  int world_size_ = 1;
  int64_t first_step_ = 0;
  std::optional<LoaderSeat> seat_;
  // Of the ranks on this machine.
  std::vector<int> node_slots_;
  std::string recipe_hash_;

  ModelSpec spec_;
  ComputeDevice device_;

  // In the order of construction; later ones point into earlier ones.
  FlightRecorder flight_recorder_;
  MeshCommunicators communicators_;
  std::unique_ptr<RankState> state_;
  std::unique_ptr<BatchStream> batches_;
};

}  // namespace weft
