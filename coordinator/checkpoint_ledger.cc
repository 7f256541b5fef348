#include "coordinator/checkpoint_ledger.h"

#include <algorithm>
#include <utility>

#include "checkpoint/coverage.h"
#include "cluster/base/text.h"

namespace weft {
namespace {

using Actions = std::vector<LedgerAction>;

std::string MissingRanks(const std::vector<bool>& present) {
  std::string text;
  for (size_t rank = 0; rank < present.size(); ++rank) {
    if (!present[rank]) text += (text.empty() ? "" : ", ") + std::to_string(rank);
  }
  return "rank(s) " + text;
}

}  // namespace

Actions CheckpointLedger::OnGeneration(Token token, int world_size) {
  Actions actions = OnGenerationEnd("a new generation begins");
  active_ = true;
  token_ = token;
  world_size_ = world_size;
  next_attempt_ = 1;
  failed_step_ = -1;
  return actions;
}

Actions CheckpointLedger::OnGenerationEnd(const std::string& reason) {
  Actions actions;
  if (save_) {
    // Its ranks are gone or going: nobody waits for the outcome. A manifest that is being committed stays as it falls.
    const bool begun = save_->stage == Stage::kBeginning || save_->stage == Stage::kWriting;
    if (begun) actions.push_back(AbortAttempt{save_->name, "the generation ended: " + reason});
    save_.reset();
  }
  active_ = false;
  return actions;
}

bool CheckpointLedger::Active(Token token, int rank) {
  if (active_ && token == token_ && rank >= 0 && rank < world_size_) return true;
  ++num_stale_;
  return false;
}

Actions CheckpointLedger::Fail(const std::string& reason) {
  Actions actions;
  const Save save = *std::exchange(save_, std::nullopt);
  if (save.stage != Stage::kRequested) actions.push_back(AbortAttempt{save.name, reason});
  for (int rank = 0; rank < world_size_; ++rank) {
    if (!save.requested[static_cast<size_t>(rank)]) continue;
    actions.push_back(SendOutcome{rank, save.name.step, save.name.attempt, false, reason});
  }
  failed_step_ = save.name.step;
  failed_reason_ = reason;
  return actions;
}

Actions CheckpointLedger::OnSaveRequest(TimePoint now, Token token, int rank, int64_t step,
                                        const std::string& train_state) {
  if (!Active(token, rank)) return {};
  if (!save_ && step == failed_step_) {
    return {SendOutcome{rank, step, 0, false, failed_reason_}};
  }
  if (!save_) {
    save_ = Save();  // emplace() of a nested class with initialisers is beyond clang 14
    save_->name = {step, token_.epoch, token_.generation, 0};
    save_->since = now;
    save_->train_state = train_state;
    save_->requested.resize(static_cast<size_t>(world_size_));
    save_->shards.resize(static_cast<size_t>(world_size_));
  }
  if (save_->name.step != step || save_->train_state != train_state) {
    const bool same_step = save_->name.step == step;
    const std::string reason = "rank " + std::to_string(rank) + " wants to save step " +
                               std::to_string(step) +
                               (same_step ? " with another train state than the other ranks"
                                          : ", others step " + std::to_string(save_->name.step));
    Actions actions = Fail(reason);
    if (!same_step) actions.push_back(SendOutcome{rank, step, 0, false, reason});
    return actions;
  }
  save_->requested[static_cast<size_t>(rank)] = true;
  if (save_->stage != Stage::kRequested ||
      std::count(save_->requested.begin(), save_->requested.end(), true) < world_size_) {
    return {};
  }
  save_->stage = Stage::kBeginning;
  save_->name.attempt = next_attempt_++;
  return {BeginAttempt{save_->name}};
}

Actions CheckpointLedger::OnBegun(TimePoint now, const Status& status) {
  if (!save_ || save_->stage != Stage::kBeginning) return {};
  if (!status.ok()) return Fail("the attempt could not begin: " + status.ToString());
  save_->stage = Stage::kWriting;
  save_->since = now;
  Actions actions;
  for (int rank = 0; rank < world_size_; ++rank) actions.push_back(SendGrant{rank, save_->name});
  return actions;
}

Actions CheckpointLedger::OnShardPrepared(TimePoint, Token token, int rank, int64_t step,
                                          int64_t attempt, const std::string& shard_info,
                                          const std::string& error) {
  if (!Active(token, rank)) return {};
  if (!save_ || save_->stage != Stage::kWriting || save_->name.step != step ||
      save_->name.attempt != attempt) {
    ++num_stale_;
    return {};
  }
  const std::string who = "rank " + std::to_string(rank);
  if (shard_info.empty()) return Fail(who + " could not write its shard: " + error);
  checkpoint::ShardInfo shard;
  if (!shard.ParseFromString(shard_info))
    return Fail(who + " sent a shard description that does not parse");
  if (shard.rank() != rank) {
    return Fail(who + " sent the shard of rank " + std::to_string(shard.rank()));
  }
  save_->shards[static_cast<size_t>(rank)] = std::move(shard);
  for (const auto& prepared : save_->shards) {
    if (!prepared) return {};
  }
  return Commit();
}

StatusOr<checkpoint::Manifest> CheckpointLedger::BuildManifest() const {
  checkpoint::Manifest manifest;
  manifest.set_format(kManifestFormat);
  manifest.set_directory(AttemptDirectoryName(save_->name));
  manifest.set_epoch(save_->name.epoch);
  manifest.set_generation(save_->name.generation);
  manifest.set_attempt(save_->name.attempt);
  if (!manifest.mutable_state()->ParseFromString(save_->train_state)) {
    return InvalidArgument("the train state does not parse");
  }
  if (manifest.state().step() != save_->name.step) {
    return InvalidArgument("the train state is of step " + std::to_string(manifest.state().step()) +
                           ", the save of step " + std::to_string(save_->name.step));
  }
  for (const auto& shard : save_->shards) *manifest.add_shards() = *shard;
  WEFT_RETURN_IF_ERROR(CheckCoverage(manifest));
  return manifest;
}

Actions CheckpointLedger::Commit() {
  StatusOr<checkpoint::Manifest> manifest = BuildManifest();
  if (!manifest.ok())
    return Fail("the shards do not make a checkpoint: " + manifest.status().message());
  save_->stage = Stage::kCommitting;
  return {CommitAttempt{*std::move(manifest)}};
}

Actions CheckpointLedger::OnCommitDone(const Status& status, bool unknown) {
  if (!save_ || save_->stage != Stage::kCommitting) return {};
  if (!status.ok() && !unknown) return Fail("the commit failed: " + status.ToString());
  const Save save = *std::exchange(save_, std::nullopt);
  Actions actions;
  for (int rank = 0; rank < world_size_; ++rank) {
    actions.push_back(SendOutcome{rank, save.name.step, save.name.attempt, status.ok(),
                                  status.ok() ? "" : "outcome unknown: " + status.ToString()});
  }
  return actions;
}

Actions CheckpointLedger::OnTick(TimePoint now) {
  if (!save_) return {};
  if (save_->stage == Stage::kRequested && now - save_->since > options_.request_timeout) {
    return Fail(MissingRanks(save_->requested) + " did not ask to save step " +
                std::to_string(save_->name.step) + " within " +
                HumanSeconds(ToSeconds(options_.request_timeout)));
  }
  if (save_->stage == Stage::kWriting && now - save_->since > options_.write_timeout) {
    std::vector<bool> prepared;
    for (const auto& shard : save_->shards) prepared.push_back(shard.has_value());
    return Fail(MissingRanks(prepared) + " did not write their shards within " +
                HumanSeconds(ToSeconds(options_.write_timeout)));
  }
  return {};
}

}  // namespace weft
