// The training loop of one rank: steps, stop requests that all ranks agree on, checkpoints, records, evaluation at the end.
//
// Thread rule: the training thread.
#pragma once

#include <cstdint>

#include "cluster/base/status.h"
#include "cluster/rpc/worker_channel.h"
#include "worker/progress_reporter.h"
#include "worker/saver.h"
#include "worker/session.h"
#include "worker/train_step.h"

namespace weft {

class Trainer {
 public:
  // All outlive the trainer.
  Trainer(Session* session, Saver* saver, WorkerChannel* channel, ProgressReporter* progress);

  // Until the recipe's last step and its evaluation, or until a Stop; then says Finished.
  Status Run();

 private:
  // One small all-reduce that opens each step, so that all ranks stop at the same one.
  StatusOr<bool> AgreeOnStop();
  Status StepAndRecord(int64_t step);
  // Was it committed? A save that fails is no error.
  StatusOr<bool> Save(int64_t step);
  Status SendRecord(int64_t step, const StepResult& result);
  void AddLoaderTimes(control::StepRecord* record);
  Status Evaluate(int64_t step);
  Status SendFinished(int64_t step, bool complete);

  Session* session_;
  Saver* saver_;
  WorkerChannel* channel_;
  ProgressReporter* progress_;
  // Since the last record.
  TimePoint record_start_;
  double save_wait_s_ = 0;
  LoaderTimes loader_times_;
  int64_t last_attempted_save_ = -1;
};

}  // namespace weft
