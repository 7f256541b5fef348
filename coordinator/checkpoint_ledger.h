// The two-phase commit of a sharded checkpoint (checkpoint/FORMAT.md).
//
//   all ranks SaveRequest(step) -> BEGIN, mkdir -> SaveGrant to all -> all ShardPrepared -> coverage exact? -> manifest
//   -> COMMIT (the commit point) -> SaveOutcome to all
//
// CheckpointLedger is the pure state machine: events in, actions out. CheckpointCommitter performs the actions on the file
// system and the journal, in the order that makes every crash harmless, and returns the messages to send. Any error, a
// deadline or the generation's end aborts the attempt; it never ends training.
//
// Thread rule: one thread at a time; no clock. The committer blocks for a few fsyncs.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "checkpoint/manifest.h"
#include "cluster/base/clock.h"
#include "cluster/base/file_system.h"
#include "cluster/base/status.h"
#include "coordinator/journal.h"
#include "coordinator/token.h"

namespace weft {

struct LedgerOptions {
  // From the first rank's request to the last's.
  Duration request_timeout = FromSeconds(120);
  // From the grant to the last prepared shard.
  Duration write_timeout = FromSeconds(1800);
};

// ---- what the ledger wants done

// Journal BEGIN, make the directory, sync its parent; then OnBegun.
struct BeginAttempt {
  CheckpointName name;
};
// Write the manifest, journal COMMIT, check for a newer coordinator; then OnCommitDone.
struct CommitAttempt {
  checkpoint::Manifest manifest;
};
// Journal ABORT and remove what the attempt left. Nothing waits for it.
struct AbortAttempt {
  CheckpointName name;
  std::string reason;
};
struct SendGrant {
  int rank = 0;
  CheckpointName name;
};
struct SendOutcome {
  int rank = 0;
  int64_t step = 0;
  int64_t attempt = 0;  // 0: no attempt was begun
  bool committed = false;
  std::string reason;
};
using LedgerAction =
    std::variant<BeginAttempt, CommitAttempt, AbortAttempt, SendGrant, SendOutcome>;

class CheckpointLedger {
 public:
  explicit CheckpointLedger(LedgerOptions options) : options_(options) {}

  // `token` is active from now on (its GENERATION_ACTIVE is durable).
  std::vector<LedgerAction> OnGeneration(Token token, int world_size);
  // No token is active any more.
  std::vector<LedgerAction> OnGenerationEnd(const std::string& reason);
  // Events of another than the active token are dropped (num_stale counts them).
  std::vector<LedgerAction> OnSaveRequest(TimePoint now, Token token, int rank, int64_t step,
                                          const std::string& train_state);
  std::vector<LedgerAction> OnShardPrepared(TimePoint now, Token token, int rank, int64_t step,
                                            int64_t attempt, const std::string& shard_info,
                                            const std::string& error);
  // Deadlines.
  std::vector<LedgerAction> OnTick(TimePoint now);
  std::vector<LedgerAction> OnBegun(TimePoint now, const Status& status);
  // `unknown`: neither committed nor safe to abort (the journal broke, or a newer coordinator is there).
  std::vector<LedgerAction> OnCommitDone(const Status& status, bool unknown);

  bool busy() const { return save_.has_value(); }
  uint64_t num_stale() const { return num_stale_; }

 private:
  enum class Stage { kRequested, kBeginning, kWriting, kCommitting };
  struct Save {
    Stage stage = Stage::kRequested;
    CheckpointName name;
    TimePoint since{};
    std::string train_state;
    std::vector<bool> requested;
    std::vector<std::optional<checkpoint::ShardInfo>> shards;
  };

  std::vector<LedgerAction> Fail(const std::string& reason);
  std::vector<LedgerAction> Commit();
  bool Active(Token token, int rank);
  StatusOr<checkpoint::Manifest> BuildManifest() const;

  LedgerOptions options_;
  bool active_ = false;
  Token token_;
  int world_size_ = 0;
  int64_t next_attempt_ = 1;
  std::optional<Save> save_;
  // The last step whose save failed in this generation: late requests for it are answered at once.
  int64_t failed_step_ = -1;
  std::string failed_reason_;
  uint64_t num_stale_ = 0;
};

struct CommitterOptions {
  LedgerOptions ledger;
  // Committed checkpoints that stay (at least 2).
  int keep = 3;
};

// A message to one worker.
using LedgerMessage = std::variant<SendGrant, SendOutcome>;

class CheckpointCommitter {
 public:
  // <run_dir>/ckpt is made if absent. Removes what recovered attempts left behind. `fs` and `journal` outlive it.
  static StatusOr<std::unique_ptr<CheckpointCommitter>> Create(FileSystem* fs,
                                                               const std::string& run_dir,
                                                               Journal* journal,
                                                               CommitterOptions options);

  // Each returns the messages to send now. See CheckpointLedger.
  std::vector<LedgerMessage> OnGeneration(TimePoint now, Token token, int world_size);
  std::vector<LedgerMessage> OnGenerationEnd(TimePoint now, const std::string& reason);
  std::vector<LedgerMessage> OnSaveRequest(TimePoint now, Token token, int rank, int64_t step,
                                           const std::string& train_state);
  std::vector<LedgerMessage> OnShardPrepared(TimePoint now, Token token, int rank, int64_t step,
                                             int64_t attempt, const std::string& shard_info,
                                             const std::string& error);
  std::vector<LedgerMessage> OnTick(TimePoint now);

  // A higher epoch exists: leave at once; no message was returned for that commit.
  bool superseded() const { return superseded_; }
  // Committed and not bad, newest (last committed) first.
  std::vector<journal::SaveCommit> Committed() const;
  // Manifest of the newest committed checkpoint that is there and decodes, with the CRC of its COMMIT; nothing if there
  // is none. One that does not is marked bad and skipped.
  StatusOr<std::optional<checkpoint::Manifest>> LatestManifest();
  // A worker found it corrupt: it is never started from again; the one before is next.
  Status MarkBad(const std::string& manifest_name, const std::string& reason);
  // Where SaveGrant.directory and Start.checkpoint_dir point: <run_dir>/ckpt.
  const std::string& checkpoint_dir() const { return checkpoint_dir_; }
  // <run_dir>/ckpt/step-001000.E1.G2.A1.
  std::string AttemptDirectory(const CheckpointName& name) const;
  const CheckpointLedger& ledger() const { return ledger_; }

 private:
  CheckpointCommitter(FileSystem* fs, const std::string& run_dir, Journal* journal,
                      CommitterOptions options);
  std::vector<LedgerMessage> Perform(TimePoint now, std::vector<LedgerAction> actions);
  Status Begin(const CheckpointName& name);
  // Sets *unknown.
  Status Commit(const checkpoint::Manifest& manifest, bool* unknown);
  void Abort(const AbortAttempt& abort);
  // Applies the retention rule; failures are logged and tried again after the next commit.
  void Retire();
  Status RetireOne(const CheckpointName& name);

  FileSystem* const fs_;
  Journal* const journal_;
  const CommitterOptions options_;
  const std::string checkpoint_dir_;
  CheckpointLedger ledger_;
  std::vector<journal::SaveCommit> committed_;  // oldest first
  std::vector<CheckpointName> aborted_;
  bool superseded_ = false;
};

}  // namespace weft
