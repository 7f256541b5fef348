#include "worker/saver.h"

#include <string>

#include "cluster/base/logging.h"

namespace weft {
namespace {

bool Committed(const control::SaveOutcome& outcome) {
  if (!outcome.committed()) {
    WEFT_LOG(WARNING) << "checkpoint of step " << outcome.step()
                      << " was not committed: " << outcome.reason()
                      << "; training goes on, the last commit stays";
  }
  return outcome.committed();
}

}  // namespace

StatusOr<bool> Saver::Save(const checkpoint::TrainState& state,
                           const std::vector<SliceData>& slices) {
  control::WorkerMessage request;
  request.mutable_save_request()->set_step(state.step());
  request.mutable_save_request()->set_train_state(state.SerializeAsString());
  WEFT_RETURN_IF_ERROR(channel_->Send(request));

  WEFT_ASSIGN_OR_RETURN(const control::CoordinatorMessage answer,
                        channel_->Receive(Clock::now() + options_.grant_timeout));
  if (answer.has_save_outcome())
    return Committed(answer.save_outcome());  // refused before any attempt
  if (!answer.has_save_grant()) return Internal("expected SaveGrant from the coordinator");

  const control::SaveGrant& grant = answer.save_grant();
  ShardWriterOptions options;
  options.rank = options_.rank;
  options.world_size = options_.world_size;
  options.epoch = channel_->token().epoch();
  options.generation = channel_->token().generation();
  options.step = state.step();
  options.attempt = grant.attempt();
  WEFT_RETURN_IF_ERROR(SendPrepared(grant, WriteShard(fs_, grant.directory(), options, slices)));

  WEFT_ASSIGN_OR_RETURN(const control::CoordinatorMessage outcome,
                        channel_->Receive(Clock::now() + options_.outcome_timeout));
  if (!outcome.has_save_outcome()) return Internal("expected SaveOutcome from the coordinator");
  return Committed(outcome.save_outcome());
}

Status Saver::SendPrepared(const control::SaveGrant& grant,
                           const StatusOr<checkpoint::ShardInfo>& shard) {
  control::WorkerMessage message;
  control::ShardPrepared* prepared = message.mutable_shard_prepared();
  prepared->set_step(grant.step());
  prepared->set_attempt(grant.attempt());
  if (shard.ok()) {
    prepared->set_shard_info(shard->SerializeAsString());
  } else {
    prepared->set_error(shard.status().ToString());
  }
  return channel_->Send(message);
}

}  // namespace weft
