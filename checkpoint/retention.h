// Which checkpoints go: a pure decision, and its execution (rename to trash/, then unlink, so that a crash leaves either
// the whole checkpoint or rubbish in trash/).
//
// Errors: the file system's. Thread rule: pure functions.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "cluster/base/file_system.h"
#include "cluster/base/status.h"

namespace weft {

enum class CheckpointState {
  kCommitted,  // the journal says so
  kBad,        // committed, but did not verify when it was read
  kAborted,    // its attempt failed
};

struct RetentionEntry {
  CheckpointName name;
  CheckpointState state = CheckpointState::kCommitted;
};

struct RetentionOptions {
  // Committed checkpoints that stay, newest first; at least 2 whatever it says.
  int keep = 3;
};

struct RetentionDecision {
  std::vector<CheckpointName> remove;
  std::string reason;
};

// `entries` in the order of their commit or abort, oldest first. Bad ones count neither as kept nor as good: they go once
// `keep` good ones are newer.
RetentionDecision DecideRetention(const std::vector<RetentionEntry>& entries,
                                  const RetentionOptions& options);

// Moves manifest (first) and directory of `name` to <checkpoint_dir>/trash/ and unlinks them. What is gone is fine.
Status RemoveCheckpoint(FileSystem* fs, const std::string& checkpoint_dir,
                        const CheckpointName& name);
// Unlinks what an earlier crash left in trash/, and manifests that never got their final name.
Status CleanUp(FileSystem* fs, const std::string& checkpoint_dir);

}  // namespace weft
