#include "coordinator/checkpoint_committer.h"

#include <algorithm>
#include <deque>
#include <iterator>
#include <utility>

#include "checkpoint/retention.h"
#include "cluster/base/logging.h"
#include "coordinator/wall_time.h"

namespace weft {

CheckpointCommitter::CheckpointCommitter(FileSystem* fs, const std::string& run_dir,
                                         Journal* journal, CommitterOptions options)
    : fs_(fs),
      journal_(journal),
      options_(options),
      checkpoint_dir_(JoinPath(run_dir, "ckpt")),
      ledger_(options.ledger),
      committed_(journal->recovered().committed) {
  for (const journal::SaveAbort& attempt : journal->recovered().aborted) {
    aborted_.push_back({attempt.step(), attempt.epoch(), attempt.generation(), attempt.attempt()});
  }
}

StatusOr<std::unique_ptr<CheckpointCommitter>> CheckpointCommitter::Create(
    FileSystem* fs, const std::string& run_dir, Journal* journal, CommitterOptions options) {
  std::unique_ptr<CheckpointCommitter> committer(
      new CheckpointCommitter(fs, run_dir, journal, options));
  // trash/ is made now, so that a full disk can be emptied later.
  WEFT_RETURN_IF_ERROR(fs->MakeDirs(JoinPath(committer->checkpoint_dir_, "trash")));
  WEFT_RETURN_IF_ERROR(fs->SyncDir(run_dir));
  const Status cleaned = CleanUp(fs, committer->checkpoint_dir_);
  if (!cleaned.ok()) WEFT_LOG(WARNING) << "cleaning up: " << cleaned;
  committer->Retire();
  return committer;
}

std::string CheckpointCommitter::AttemptDirectory(const CheckpointName& name) const {
  return JoinPath(checkpoint_dir_, AttemptDirectoryName(name));
}

std::vector<LedgerMessage> CheckpointCommitter::OnGeneration(TimePoint now, Token token,
                                                             int world_size) {
  return Perform(now, ledger_.OnGeneration(token, world_size));
}
std::vector<LedgerMessage> CheckpointCommitter::OnGenerationEnd(TimePoint now,
                                                                const std::string& reason) {
  return Perform(now, ledger_.OnGenerationEnd(reason));
}
std::vector<LedgerMessage> CheckpointCommitter::OnSaveRequest(TimePoint now, Token token, int rank,
                                                              int64_t step,
                                                              const std::string& train_state) {
  return Perform(now, ledger_.OnSaveRequest(now, token, rank, step, train_state));
}
std::vector<LedgerMessage> CheckpointCommitter::OnShardPrepared(TimePoint now, Token token,
                                                                int rank, int64_t step,
                                                                int64_t attempt,
                                                                const std::string& shard_info,
                                                                const std::string& error) {
  return Perform(now, ledger_.OnShardPrepared(now, token, rank, step, attempt, shard_info, error));
}
std::vector<LedgerMessage> CheckpointCommitter::OnTick(TimePoint now) {
  return Perform(now, ledger_.OnTick(now));
}

std::vector<LedgerMessage> CheckpointCommitter::Perform(TimePoint now,
                                                        std::vector<LedgerAction> actions) {
  std::vector<LedgerMessage> messages;
  bool committed = false;
  std::deque<LedgerAction> queue(std::make_move_iterator(actions.begin()),
                                 std::make_move_iterator(actions.end()));
  const auto enqueue = [&](std::vector<LedgerAction> more) {
    for (LedgerAction& action : more) queue.push_back(std::move(action));
  };
  while (!queue.empty() && !superseded_) {
    const LedgerAction action = std::move(queue.front());
    queue.pop_front();
    if (const auto* begin = std::get_if<BeginAttempt>(&action)) {
      enqueue(ledger_.OnBegun(now, Begin(begin->name)));
    } else if (const auto* commit = std::get_if<CommitAttempt>(&action)) {
      bool unknown = false;
      const Status status = Commit(commit->manifest, &unknown);
      committed = status.ok();
      enqueue(ledger_.OnCommitDone(status, unknown));
    } else if (const auto* abort = std::get_if<AbortAttempt>(&action)) {
      Abort(*abort);
    } else if (const auto* grant = std::get_if<SendGrant>(&action)) {
      messages.push_back(*grant);
    } else if (const auto* outcome = std::get_if<SendOutcome>(&action)) {
      messages.push_back(*outcome);
    }
  }
  // A superseded coordinator says nothing: it does not know what counts.
  if (superseded_) return {};
  if (committed) Retire();
  return messages;
}

Status CheckpointCommitter::Begin(const CheckpointName& name) {
  journal::Record record;
  journal::SaveBegin* begin = record.mutable_save_begin();
  begin->set_step(name.step);
  begin->set_generation(name.generation);
  begin->set_attempt(name.attempt);
  WEFT_RETURN_IF_ERROR(journal_->Append(std::move(record)));
  WEFT_RETURN_IF_ERROR(fs_->MakeDirs(AttemptDirectory(name)));
  return fs_->SyncDir(checkpoint_dir_);
}

Status CheckpointCommitter::Commit(const checkpoint::Manifest& manifest, bool* unknown) {
  WEFT_ASSIGN_OR_RETURN(const uint32_t crc, WriteManifest(fs_, checkpoint_dir_, manifest));
  const CheckpointName name = NameOf(manifest);
  journal::Record record;
  journal::SaveCommit* commit = record.mutable_save_commit();
  commit->set_step(name.step);
  commit->set_epoch(name.epoch);
  commit->set_generation(name.generation);
  commit->set_attempt(name.attempt);
  commit->set_manifest(ManifestFileName(name));
  commit->set_manifest_crc(crc);
  for (const checkpoint::ShardInfo& shard : manifest.shards()) {
    commit->set_bytes(commit->bytes() + shard.file_bytes());
  }
  commit->set_world_size(manifest.shards_size());
  commit->set_unix_ms(UnixMs());
  const Status appended = journal_->Append(record);
  if (!appended.ok()) {
    // A broken journal may still hold the COMMIT after a restart, so nothing of the attempt may be removed.
    *unknown = journal_->broken();
    return appended;
  }
  // Write, sync, then check: only who is still the newest coordinator may announce.
  const StatusOr<bool> superseded = journal_->Superseded();
  if (!superseded.ok() || *superseded) {
    *unknown = true;
    superseded_ = true;
    return superseded.ok() ? FailedPrecondition("a newer coordinator has taken over")
                           : superseded.status();
  }
  committed_.push_back(record.save_commit());
  return OkStatus();
}

void CheckpointCommitter::Abort(const AbortAttempt& abort) {
  WEFT_LOG(WARNING) << "checkpoint of step " << abort.name.step << " is given up: " << abort.reason;
  journal::Record record;
  journal::SaveAbort* entry = record.mutable_save_abort();
  entry->set_step(abort.name.step);
  entry->set_epoch(abort.name.epoch);
  entry->set_generation(abort.name.generation);
  entry->set_attempt(abort.name.attempt);
  entry->set_reason(abort.reason);
  const Status journaled = journal_->Append(std::move(record));
  // Without the record the attempt is resolved by the next takeover; it is not complete, so it is aborted then, too.
  if (!journaled.ok()) WEFT_LOG(WARNING) << "journal: " << journaled;
  aborted_.push_back(abort.name);
  Retire();
}

std::vector<journal::SaveCommit> CheckpointCommitter::Committed() const {
  std::vector<journal::SaveCommit> good;
  for (auto commit = committed_.rbegin(); commit != committed_.rend(); ++commit) {
    if (!commit->bad()) good.push_back(*commit);
  }
  return good;
}

StatusOr<std::optional<checkpoint::Manifest>> CheckpointCommitter::LatestManifest() {
  for (const journal::SaveCommit& commit : Committed()) {
    const std::string path = JoinPath(checkpoint_dir_, commit.manifest());
    Status status;
    const StatusOr<std::string> bytes = fs_->ReadFile(path);
    if (bytes.ok() && ManifestCrc(*bytes) != commit.manifest_crc()) {
      status = Corruption(path + ": it is not the manifest that was committed");
    } else if (bytes.ok()) {
      StatusOr<checkpoint::Manifest> manifest = DecodeManifest(*bytes, path);
      if (manifest.ok()) return std::optional<checkpoint::Manifest>(*std::move(manifest));
      status = manifest.status();
    } else {
      status = bytes.status();
    }
    // What a retry may cure is no reason to fall back.
    if (status.code() != StatusCode::kCorruption && status.code() != StatusCode::kNotFound)
      return status;
    WEFT_RETURN_IF_ERROR(MarkBad(commit.manifest(), status.ToString()));
  }
  return std::optional<checkpoint::Manifest>();
}

Status CheckpointCommitter::MarkBad(const std::string& manifest_name, const std::string& reason) {
  for (journal::SaveCommit& commit : committed_) {
    if (commit.manifest() != manifest_name || commit.bad()) continue;
    WEFT_LOG(WARNING) << manifest_name << " is not used any more: " << reason;
    commit.set_bad(true);
    journal::Record record;
    record.mutable_checkpoint_bad()->set_manifest(manifest_name);
    record.mutable_checkpoint_bad()->set_reason(reason);
    return journal_->Append(std::move(record));
  }
  return OkStatus();
}

void CheckpointCommitter::Retire() {
  std::vector<RetentionEntry> entries;
  for (const CheckpointName& name : aborted_) entries.push_back({name, CheckpointState::kAborted});
  for (const journal::SaveCommit& commit : committed_) {
    entries.push_back({{commit.step(), commit.epoch(), commit.generation(), commit.attempt()},
                       commit.bad() ? CheckpointState::kBad : CheckpointState::kCommitted});
  }
  const RetentionDecision decision = DecideRetention(entries, {.keep = options_.keep});
  for (const CheckpointName& name : decision.remove) {
    const Status status = RetireOne(name);
    if (status.ok()) continue;
    WEFT_LOG(WARNING) << "cannot remove " << AttemptDirectoryName(name) << ": " << status
                      << "; tried again after the next checkpoint";
    return;
  }
}

Status CheckpointCommitter::RetireOne(const CheckpointName& name) {
  journal::Record retired;
  retired.mutable_checkpoint_retired()->set_manifest(ManifestFileName(name));
  const auto commit = std::find_if(committed_.begin(), committed_.end(), [&](const auto& c) {
    return c.manifest() == retired.checkpoint_retired().manifest();
  });
  if (commit != committed_.end()) {
    // First it stops being a checkpoint, then it goes; a crash in between leaves it as an aborted one.
    WEFT_RETURN_IF_ERROR(journal_->Append(retired));
    committed_.erase(commit);
    aborted_.push_back(name);
  }
  WEFT_RETURN_IF_ERROR(RemoveCheckpoint(fs_, checkpoint_dir_, name));
  aborted_.erase(std::remove(aborted_.begin(), aborted_.end(), name), aborted_.end());
  return journal_->Append(std::move(retired));
}

}  // namespace weft
