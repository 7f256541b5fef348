// The two-phase commit of a sharded checkpoint (checkpoint/FORMAT.md).
//
//   all ranks SaveRequest(step) -> BEGIN, mkdir -> SaveGrant to all -> all ShardPrepared -> coverage exact? -> manifest
//   -> COMMIT (the commit point) -> SaveOutcome to all
//
// The ledger is the pure state machine: events in, actions out; checkpoint_committer.h performs them. Any error, a deadline or
// the generation's end aborts the attempt; it never ends training.
//
// Thread rule: a value; no clock, no files.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "checkpoint/manifest.h"
#include "cluster/base/clock.h"
#include "cluster/base/status.h"
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

}  // namespace weft
