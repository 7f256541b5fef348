#include "worker/trainer.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "worker/evaluation.h"

namespace weft {
namespace {

// A run is not done before its result is safe; what was committed before is untouched.
Status LastSaveFailed(int64_t step) {
  return ResourceExhausted(
      "the last checkpoint (step " + std::to_string(step) +
      ") could not be saved, see the warning above; make room and start again: the run goes on "
      "from its last commit");
}

// Does a checkpoint follow after `done` steps?
bool SaveIsDue(const Recipe& recipe, int64_t done) {
  const int64_t every = recipe.run().checkpoint_every();
  return done == recipe.steps() || (every > 0 && done % every == 0);
}

void AddMetric(const std::string& name, double value, control::StepRecord* record) {
  control::Metric* metric = record->add_metrics();
  metric->set_name(name);
  metric->set_value(value);
}

}  // namespace

Trainer::Trainer(Session* session, Saver* saver, WorkerChannel* channel, ProgressReporter* progress)
    : session_(session),
      saver_(saver),
      channel_(channel),
      progress_(progress),
      record_start_(Clock::now()) {}

Status Trainer::Run() {
  const int64_t steps = session_->recipe().steps();
  int64_t done = session_->first_step();
  last_attempted_save_ = done;
  record_start_ = Clock::now();
  for (; done < steps; ++done) {
    WEFT_ASSIGN_OR_RETURN(const bool stop, AgreeOnStop());
    if (stop) {
      WEFT_RETURN_IF_ERROR(Save(done).status());
      return SendFinished(done, /*complete=*/false);
    }
    WEFT_RETURN_IF_ERROR(StepAndRecord(done));
    if (!SaveIsDue(session_->recipe(), done + 1)) continue;
    WEFT_ASSIGN_OR_RETURN(const bool committed, Save(done + 1));
    if (!committed && done + 1 == steps) return LastSaveFailed(done + 1);
  }
  if (session_->recipe().eval().retrieval()) WEFT_RETURN_IF_ERROR(Evaluate(done));
  return SendFinished(done, /*complete=*/true);
}

StatusOr<bool> Trainer::AgreeOnStop() {
  int64_t stop = channel_->stop_requested() ? 1 : 0;
  WEFT_RETURN_IF_ERROR(session_->parallel().AllReduceWorld(&stop, 1, ReduceOp::kMax, "step.flags"));
  return stop != 0;
}

Status Trainer::StepAndRecord(int64_t step) {
  progress_->Enter(control::PHASE_TRAINING, step);
  WEFT_ASSIGN_OR_RETURN(const StepResult result, TrainStep(session_, step));
  progress_->Tick();
  return SendRecord(step + 1, result);
}

Status Trainer::SendRecord(int64_t step, const StepResult& result) {
  const TimePoint now = Clock::now();
  const double seconds = ToSeconds(now - record_start_);
  record_start_ = now;
  const double save_wait_s = std::exchange(save_wait_s_, 0.0);
  if (!session_->rank_state().reports()) return OkStatus();
  control::WorkerMessage message;
  control::StepRecord* record = message.mutable_step();
  record->set_step(step);
  record->set_loss(result.loss);
  AddMetric("lr", result.lr, record);
  AddMetric("grad_norm", result.grad_norm, record);
  for (const Metric& metric : result.metrics) AddMetric(metric.name, metric.value, record);
  AddLoaderTimes(record);
  const BatchRecipe& batch = session_->recipe().batch();
  record->set_samples(static_cast<int64_t>(batch.slots()) * batch.micro_batches() *
                      batch.micro_batch_size());
  record->set_seconds(seconds);
  record->set_data_wait_s(result.data_wait_s);
  record->set_peer_wait_s(result.peer_wait_s);
  record->set_save_wait_s(save_wait_s);
  return channel_->Send(message);
}

// What the loader's threads did during the step: says what to do about waiting for data. A loader that was started again
// counts from zero.
void Trainer::AddLoaderTimes(control::StepRecord* record) {
  const LoaderTimes now = session_->batches().loader().times();
  const LoaderTimes before = std::exchange(loader_times_, now);
  AddMetric("data_decode_s", std::max(0.0, now.decode_s - before.decode_s), record);
  AddMetric("data_read_s", std::max(0.0, now.read_s - before.read_s), record);
  AddMetric("data_core_wait_s", std::max(0.0, now.core_wait_s - before.core_wait_s), record);
}

StatusOr<bool> Trainer::Save(int64_t step) {
  // A step that was tried, with or without success, is not tried again at once.
  if (last_attempted_save_ == step) return true;
  last_attempted_save_ = step;
  progress_->Enter(control::PHASE_SAVING, step);
  const TimePoint before = Clock::now();
  std::vector<SliceData> slices;
  for (const StateSlice& slice : session_->optimizer().ExportState()) {
    slices.push_back(BoxSlice(slice.name, slice.dtype, slice.global_shape, slice.box.offsets,
                              slice.box.lengths, slice.flat_begin, slice.flat_end, slice.data));
  }
  StatusOr<bool> committed = saver_->Save(session_->TrainStateAt(step), slices);
  save_wait_s_ += ToSeconds(Clock::now() - before);
  return committed;
}

Status Trainer::Evaluate(int64_t step) {
  progress_->Enter(control::PHASE_EVALUATING, step);
  WEFT_ASSIGN_OR_RETURN(control::EvalRecord record, EvaluateSession(session_));
  if (!session_->rank_state().reports()) return OkStatus();
  control::WorkerMessage message;
  record.set_step(step);
  *message.mutable_eval() = std::move(record);
  return channel_->Send(message);
}

Status Trainer::SendFinished(int64_t step, bool complete) {
  progress_->Enter(control::PHASE_DONE, step);
  control::WorkerMessage message;
  message.mutable_finished()->set_step(step);
  message.mutable_finished()->set_complete(complete);
  return channel_->Send(message);
}

}  // namespace weft
