#include "worker/session.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint_reader.h"
#include "cluster/base/logging.h"
#include "cluster/comm/connect_mesh.h"
#include "cluster/config/recipe_hash.h"
#include "dataloader/recipe_options.h"
#include "models/registry.h"
#include "parallel/data/slots.h"
#include "worker/init_from.h"
#include "worker/rank_device.h"

namespace weft {
namespace {

// "10.0.0.7:4711" -> "10.0.0.7".
std::string_view HostOf(std::string_view endpoint) {
  return endpoint.substr(0, endpoint.find_last_of(':'));
}

// The slots of all ranks whose endpoints are on the host of this rank's.
StatusOr<std::vector<int>> SlotsOfNode(const control::Start& start, const Recipe& recipe,
                                       SlotOrder order) {
  std::set<int> slots;
  if (start.rank() >= start.endpoints_size()) return std::vector<int>();
  WEFT_ASSIGN_OR_RETURN(const ParallelDims dims, MakeParallelDims(recipe));
  const Mesh mesh(dims);
  for (int rank = 0; rank < start.endpoints_size(); ++rank) {
    if (HostOf(start.endpoints(rank)) != HostOf(start.endpoints(start.rank()))) continue;
    const std::vector<int> own =
        OwnSlots(recipe.batch().slots(), dims.dp, mesh.CoordinateOf(rank).dp, order);
    slots.insert(own.begin(), own.end());
  }
  return std::vector<int>(slots.begin(), slots.end());
}

}  // namespace

StatusOr<std::unique_ptr<Session>> Session::Create(const control::Start& start,
                                                   const control::Token& token, Listener* listener,
                                                   std::optional<LoaderSeat> seat, FileSystem* fs) {
  Recipe recipe;
  if (!recipe.ParseFromString(start.recipe()))
    return Internal("the coordinator's recipe does not parse");
  std::unique_ptr<Session> session(new Session(std::move(recipe)));
  session->rank_ = start.rank();
  session->seat_ = std::move(seat);
  session->world_size_ = start.world_size();
  session->recipe_hash_ = RecipeHash(session->recipe_);
  WEFT_ASSIGN_OR_RETURN(session->device_, OpenRankDevice(session->recipe_, start.gpu()));
  WEFT_RETURN_IF_ERROR(session->Connect(start, token, listener));
  WEFT_RETURN_IF_ERROR(session->BuildModel());
  WEFT_ASSIGN_OR_RETURN(session->node_slots_,
                        SlotsOfNode(start, session->recipe_, session->parallel().slot_order()));
  WEFT_RETURN_IF_ERROR(session->Restore(start, fs));
  return session;
}

Status Session::Connect(const control::Start& start, const control::Token& token,
                        Listener* listener) {
  if (world_size_ == 1) return OkStatus();
  const Duration timeout = FromSeconds(recipe_.run().collective_timeout_s());
  WEFT_ASSIGN_OR_RETURN(const ParallelDims dims, MakeParallelDims(recipe_));
  const MeshBackend backend{.backend = recipe_.layout().backend(),
                            .device = recipe_.layout().device(),
                            .gpu = start.gpu(),
                            .comm_id = start.comm_id()};
  TcpOptions options;
  options.rank = rank_;
  options.endpoints.assign(start.endpoints().begin(), start.endpoints().end());
  options.run_token = start.run_token();
  options.epoch = token.epoch();
  options.generation = token.generation();
  options.timeout = timeout;
  options.recorder = &flight_recorder_;
  WEFT_ASSIGN_OR_RETURN(communicators_, ConnectMeshFor(dims, backend, options, *listener));
  return OkStatus();
}

Status Session::BuildModel() {
  WEFT_ASSIGN_OR_RETURN(spec_, MakeModelSpec(recipe_));
  WEFT_RETURN_IF_ERROR(
      ApplyTrainable({recipe_.trainable().begin(), recipe_.trainable().end()}, &spec_));
  AxisCommunicators axes;
  axes.dp = communicators_.dp.get();
  axes.tp = communicators_.tp.get();
  axes.pp = communicators_.pp.get();
  axes.device = device_;
  WEFT_ASSIGN_OR_RETURN(state_, RankState::Create(recipe_, spec_, axes));
  return OkStatus();
}

Status Session::Restore(const control::Start& start, FileSystem* fs) {
  if (!start.manifest().empty()) {
    checkpoint::Manifest manifest;
    if (!manifest.ParseFromString(start.manifest()))
      return Internal("the coordinator's manifest does not parse");
    return ResumeFrom(manifest, start.checkpoint_dir(), fs);
  }
  parameters().Initialize(recipe_.seed());
  for (const InitFrom& init : recipe_.init_from())
    WEFT_RETURN_IF_ERROR(InitializeFrom(init, fs, state_.get()));
  return OpenData(nullptr);
}

Status Session::ResumeFrom(const checkpoint::Manifest& manifest, const std::string& checkpoint_dir,
                           FileSystem* fs) {
  const checkpoint::TrainState& state = manifest.state();
  if (state.recipe_hash() != recipe_hash_) {
    return InvalidArgument("the checkpoint of step " + std::to_string(state.step()) + " in " +
                           checkpoint_dir + " belongs to another recipe (hash " +
                           state.recipe_hash() + ", not " + recipe_hash_ +
                           "); train in another run directory");
  }
  if (state.cpu_capability() != at::get_cpu_capability()) {
    WEFT_LOG(WARNING) << "the checkpoint was made with CPU capability " << state.cpu_capability()
                      << ", this is " << at::get_cpu_capability()
                      << ": losses may differ in their last bits from here on";
  }
  WEFT_ASSIGN_OR_RETURN(std::unique_ptr<CheckpointReader> reader,
                        CheckpointReader::Open(fs, checkpoint_dir, manifest));
  first_step_ = state.step();
  WEFT_RETURN_IF_ERROR(OpenData(&state.cursor()));
  return optimizer().ImportState(
      first_step_, [&reader](const std::string& name, int64_t begin, int64_t end, void* out) {
        return reader->Read(name, begin, end, out);
      });
}

namespace {

// What this rank's blocks read and no block makes.
std::vector<std::string> LoaderFields(const ModelSpec& spec, const Stages& stages) {
  std::set<std::string> made;
  std::set<std::string> read;
  for (int b = 0; b < static_cast<int>(spec.blocks.size()); ++b) {
    const BlockSpec& block = spec.blocks[static_cast<size_t>(b)];
    for (const ActivationSpec& output : block.outputs) made.insert(output.name);
    if (!stages.IsOwn(stages.StageOf(b))) continue;
    for (const ActivationSpec& input : block.inputs) read.insert(input.name);
  }
  std::vector<std::string> fields;
  std::set_difference(read.begin(), read.end(), made.begin(), made.end(),
                      std::back_inserter(fields));
  return fields;
}

}  // namespace

Status Session::OpenData(const checkpoint::DataCursor* cursor) {
  LoaderOptions options = MakeLoaderOptions();
  options.first_step = first_step_;
  options.fields = LoaderFields(spec_, state_->stages());
  WEFT_ASSIGN_OR_RETURN(std::unique_ptr<Loader> loader, OpenLoader(options));
  if (cursor != nullptr && cursor->manifest_hash() != loader->manifest_hash()) {
    return InvalidArgument("the training data changed since the checkpoint of step " +
                           std::to_string(first_step_) + " (manifest " + loader->manifest_hash() +
                           ", was " + cursor->manifest_hash() +
                           "): bring the shards back, or train in another run directory");
  }
  batches_ = std::make_unique<BatchStream>(options, parallel().device(), std::move(loader));
  return OkStatus();
}

StatusOr<std::unique_ptr<Loader>> Session::OpenLoader(const LoaderOptions& options) const {
  if (!seat_) return Loader::Open(options);
  // Tensor-parallel ranks read the same: those of one node share the ring of their first.
  LoaderSeat seat = *seat_;
  WEFT_ASSIGN_OR_RETURN(const ParallelDims dims, MakeParallelDims(recipe_));
  const int first = seat.region - Mesh(dims).CoordinateOf(rank_).tp;
  if (seat.consecutive && dims.tp <= kMaxRingReaders && first >= 0 &&
      first + dims.tp <= seat.segment->regions()) {
    seat.readers = dims.tp;
    seat.reader = seat.region - first;
    seat.region = first;
  }
  return OpenRingLoader(seat, options);
}

LoaderOptions Session::MakeLoaderOptions() const {
  StatusOr<LoaderOptions> of_recipe = LoaderOptionsOf(recipe_);
  // The model was made from the same recipe.
  WEFT_CHECK(of_recipe.ok()) << of_recipe.status();
  LoaderOptions options = std::move(*of_recipe);
  options.slots = state_->parallel().slots();
  options.node_slots = node_slots_;
  options.end_step = recipe_.steps();
  return options;
}

checkpoint::TrainState Session::TrainStateAt(int64_t step) const {
  checkpoint::TrainState state;
  state.set_step(step);
  state.set_seed(recipe_.seed());
  state.set_recipe_hash(recipe_hash_);
  state.mutable_cursor()->set_manifest_hash(batches_->loader().manifest_hash());
  state.mutable_cursor()->set_next_step(step);
  state.set_cpu_capability(at::get_cpu_capability());
  // Of all stages: every rank says the same.
  for (const ParamSpec& param : spec_.Params()) {
    if (!param.trainable && param.tie.empty()) state.add_frozen(param.name);
  }
  return state;
}

std::string Session::CurrentOperation() const { return communicators_.CurrentOperation(); }

}  // namespace weft
