#include "coordinator/run_chronicle.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "cluster/base/logging.h"
#include "cluster/base/text.h"
#include "coordinator/membership.h"
#include "coordinator/wall_time.h"

namespace weft {

RunChronicle::RunChronicle(std::FILE* out, bool live, std::string run_dir, int64_t num_steps,
                           Journal* journal, RunRecorder* recorder)
    : run_dir_(std::move(run_dir)),
      num_steps_(num_steps),
      journal_(journal),
      recorder_(recorder),
      console_(out, live, num_steps) {}

void RunChronicle::OnCoordinatorStart(Token token,
                                      const std::vector<journal::SaveCommit>& committed) {
  std::string from = "starting from init";
  if (!committed.empty()) {
    const double age = static_cast<double>(UnixMs() - committed.front().unix_ms()) / 1000;
    from = "resuming from step " + std::to_string(committed.front().step()) + ", committed " +
           HumanSeconds(std::max(0.0, age)) + " ago";
  }
  console_.Say(from);
  recorder_->OnEvent(token, "coordinator_started", from,
                     {{"pid", static_cast<int64_t>(::getpid())}});
}

void RunChronicle::OnWaiting(const std::string& reason) {
  if (said_waiting_ == reason) return;
  said_waiting_ = reason;
  console_.Say(reason);
}

void RunChronicle::OnDevices(const std::string& text) {
  if (said_devices_ == text) return;
  said_devices_ = text;
  console_.Say(text);
}

void RunChronicle::OnMembershipPhase(Token token, MembershipPhase phase,
                                     const std::string& reason) {
  recorder_->OnEvent(token, "state", reason, {{"phase", MembershipPhaseName(phase)}});
}

void RunChronicle::OnLost(TimePoint now, Token token, const EndCause& cause,
                          const std::string& reason) {
  recovery_.OnLost(now, reason);
  console_.Say(reason);
  journal::Record record;
  record.mutable_worker_lost()->set_generation(token.generation);
  record.mutable_worker_lost()->set_rank(cause.rank);
  record.mutable_worker_lost()->set_verdict(reason);
  Append(std::move(record));
  recorder_->OnEvent(token, "worker_lost", reason, {{"rank", cause.rank}, {"step", cause.step}});
}

void RunChronicle::OnGenerationStart(Token token, int64_t from_step) {
  recovery_.OnStart(from_step);
  console_.OnGenerationStart();
  recorder_->OnGenerationStart(token, from_step);
}

void RunChronicle::OnStep(TimePoint now, Token token, const control::StepRecord& record) {
  last_step_ = record;
  recorder_->OnStep(token, record);
  if (const auto recovery = recovery_.OnStep(now)) OnRecovered(token, *recovery);
  console_.OnStep(now, record);
}

void RunChronicle::OnRecovered(Token token, const Recovery& recovery) {
  console_.Say(recovery.Sentence());
  journal::Record entry;
  entry.mutable_recovered()->set_generation(token.generation);
  entry.mutable_recovered()->set_from_step(recovery.from_step);
  std::vector<EventField> fields = {{"from_step", recovery.from_step},
                                    {"seconds", recovery.seconds}};
  for (const auto& [phase, seconds] : recovery.phases) {
    journal::PhaseSeconds* item = entry.mutable_recovered()->add_phases();
    item->set_phase(phase);
    item->set_seconds(seconds);
    fields.emplace_back(phase + "_s", seconds);
  }
  Append(std::move(entry));
  recorder_->OnEvent(token, "recovered", recovery.Sentence(), fields);
  recoveries_.push_back(recovery);
}

void RunChronicle::OnCommitted(Token token, int64_t step, int64_t bytes) {
  recorder_->OnEvent(token, "checkpoint_committed",
                     "checkpoint of step " + std::to_string(step) + " committed",
                     {{"step", step}, {"bytes", bytes}});
}

void RunChronicle::OnSaveFailed(Token token, int64_t step, const std::string& reason) {
  const std::string text =
      "the checkpoint of step " + std::to_string(step) + " failed, training goes on: " + reason;
  recorder_->OnEvent(token, "checkpoint_failed", text, {{"step", step}});
  console_.Say(text);
}

void RunChronicle::OnBad(Token token, const std::string& manifest, const std::string& reason) {
  recorder_->OnEvent(token, "checkpoint_bad", manifest + " is not used any more: " + reason,
                     {{"manifest", manifest}});
}

void RunChronicle::OnStopRequested(Token token, const std::string& signal) {
  console_.Say(signal +
               ": the run saves at the next step and stops (a second signal ends it at once)");
  recorder_->OnEvent(token, "stop_requested", "stopped by " + signal);
}

void RunChronicle::OnSecondStop(const std::string& signal) {
  console_.Say(signal + " again: leaving at once, the last committed checkpoint stays");
}

void RunChronicle::OnOver(Token token, int exit_code, const std::string& reason) {
  journal::Record record;
  record.mutable_run_finished()->set_exit_code(exit_code);
  record.mutable_run_finished()->set_reason(reason);
  record.mutable_run_finished()->set_step(last_step_.step());
  Append(std::move(record));
  recorder_->OnEvent(token, "run_finished", reason, {{"exit_code", exit_code}});
  console_.Finish();
  if (exit_code != kExitDone) return;
  const std::string loss =
      last_step_.step() > 0 ? ", final loss " + std::to_string(last_step_.loss()) : "";
  console_.Say("done: " + reason + ", " + std::to_string(num_steps_) + " steps" + loss + "; " +
               run_dir_);
}

// Records that explain but decide nothing: a journal that cannot take them is no reason to stop.
void RunChronicle::Append(journal::Record record) {
  const Status status = journal_->Append(std::move(record));
  if (!status.ok()) WEFT_LOG(WARNING) << "journal: " << status;
}

}  // namespace weft
