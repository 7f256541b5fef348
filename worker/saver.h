// One rank's part in the two-phase save (checkpoint/FORMAT.md): ask, get the attempt's directory, write the shard, report
// it, hear whether the coordinator committed. Synchronous: training waits, and the wait is measured.
//
// A save that fails (disk full, a peer that could not write) is logged and training goes on.
// Thread rule: the training thread.
#pragma once

#include <cstdint>
#include <vector>

#include "checkpoint/manifest.pb.h"
#include "checkpoint/shard_writer.h"
#include "cluster/base/file_system.h"
#include "cluster/base/status.h"
#include "cluster/rpc/worker_channel.h"

namespace weft {

struct SaverOptions {
  int rank = 0;
  int world_size = 1;
  // How long the coordinator may take to answer a request, and to commit once this rank has written.
  Duration grant_timeout = std::chrono::minutes(3);
  Duration outcome_timeout = std::chrono::minutes(35);
};

class Saver {
 public:
  // Both outlive the saver.
  Saver(const SaverOptions& options, FileSystem* fs, WorkerChannel* channel)
      : options_(options), fs_(fs), channel_(channel) {}

  // Every rank calls it with the same `state`; `slices` are this rank's and must not change meanwhile. Returns whether the
  // checkpoint was committed. Errors: Unavailable, DeadlineExceeded: the control plane is gone.
  StatusOr<bool> Save(const checkpoint::TrainState& state, const std::vector<SliceData>& slices);

 private:
  Status SendPrepared(const control::SaveGrant& grant,
                      const StatusOr<checkpoint::ShardInfo>& shard);

  SaverOptions options_;
  FileSystem* fs_;
  WorkerChannel* channel_;
};

}  // namespace weft
