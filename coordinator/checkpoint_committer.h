// Performs what the checkpoint ledger decides, on the file system and the journal, in the order that makes every crash
// harmless (checkpoint/FORMAT.md), and returns the messages to send. Keeps the list of committed checkpoints, applies the
// retention rule to it, and says which one a generation starts from.
//
// Errors: a failed attempt is told to the ranks and never ends training; only Create, LatestManifest and MarkBad return any.
// Thread rule: one thread at a time; no clock but the wall time in a COMMIT. Blocks for a few fsyncs.
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
#include "coordinator/checkpoint_ledger.h"
#include "coordinator/journal.h"
#include "coordinator/token.h"

namespace weft {

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
