// `weft checkpoint list|verify DIR`: what a run has kept, and whether it still reads. DIR is a run directory or its ckpt/.
// Reads only; works beside a live run.
//
// Exit codes: 0 all is well, 1 damage or nothing there, 2 wrong use. Thread rule: one thread.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "cluster/base/file_system.h"
#include "cluster/base/status.h"

namespace weft {

// One row of the list: a checkpoint that the journal or the directory knows.
struct CheckpointRow {
  CheckpointName name;
  // "committed", "bad", "aborted", "unfinished", "not in the journal".
  std::string state;
  uint64_t bytes = 0;
  int world_size = 0;
  int64_t unix_ms = 0;
  // Of the manifest that was committed; 0 if the journal does not say.
  uint32_t manifest_crc = 0;
};

struct CheckpointListing {
  std::string checkpoint_dir;
  std::vector<CheckpointRow> rows;  // in the order of their steps, then of their commits
};

// NotFound if there is no checkpoint directory at `path`.
StatusOr<CheckpointListing> ListCheckpoints(FileSystem* fs, const std::string& path);

int CheckpointCommand(const std::vector<std::string>& args);

}  // namespace weft
