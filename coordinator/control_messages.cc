#include "coordinator/control_messages.h"

namespace weft {
namespace {

WorkerPhase FromWire(control::Phase phase) {
  switch (phase) {
    case control::PHASE_LOADING:
      return WorkerPhase::kLoading;
    case control::PHASE_TRAINING:
      return WorkerPhase::kTraining;
    case control::PHASE_SAVING:
      return WorkerPhase::kSaving;
    case control::PHASE_EVALUATING:
      return WorkerPhase::kEvaluating;
    case control::PHASE_DONE:
      return WorkerPhase::kDone;
    default:
      return WorkerPhase::kStarting;
  }
}

}  // namespace

Token FromWire(const control::Token& token) { return {token.epoch(), token.generation()}; }

ProgressReport FromWire(const control::Progress& progress) {
  return {FromWire(progress.phase()), progress.step(), progress.counter(), progress.operation()};
}

control::Frame WelcomeFrame(int agent, double heartbeat_s, Duration lease) {
  control::Frame frame;
  control::Welcome* welcome = frame.mutable_welcome();
  welcome->set_agent_id(agent);
  welcome->set_heartbeat_s(heartbeat_s);
  welcome->set_lease_s(ToSeconds(lease));
  return frame;
}

control::Frame HeartbeatAckFrame(uint64_t sequence) {
  control::Frame frame;
  frame.mutable_heartbeat_ack()->set_sequence(sequence);
  return frame;
}

control::Frame SpawnFrame(const std::vector<int>& ranks, const std::string& log_dir) {
  control::Frame frame;
  for (const int rank : ranks) frame.mutable_spawn()->add_ranks(rank);
  frame.mutable_spawn()->set_log_dir(log_dir);
  return frame;
}

control::Frame KillFrame(double grace_s) {
  control::Frame frame;
  frame.mutable_kill_workers()->set_grace_s(grace_s);
  return frame;
}

control::Frame ShutdownFrame(int exit_code, const std::string& reason) {
  control::Frame frame;
  frame.mutable_shutdown()->set_exit_code(exit_code);
  frame.mutable_shutdown()->set_reason(reason);
  return frame;
}

control::Frame ToWorkerFrame(int rank, const control::CoordinatorMessage& message) {
  control::Frame frame;
  frame.mutable_to_worker()->set_rank(rank);
  *frame.mutable_to_worker()->mutable_message() = message;
  return frame;
}

control::CoordinatorMessage StopMessage(const std::string& reason) {
  control::CoordinatorMessage message;
  message.mutable_stop()->set_reason(reason);
  return message;
}

control::CoordinatorMessage DumpMessage(int count) {
  control::CoordinatorMessage message;
  message.mutable_dump_recorder()->set_last(count);
  return message;
}

control::CoordinatorMessage GrantMessage(const SendGrant& grant, const std::string& directory) {
  control::CoordinatorMessage message;
  message.mutable_save_grant()->set_step(grant.name.step);
  message.mutable_save_grant()->set_attempt(grant.name.attempt);
  message.mutable_save_grant()->set_directory(directory);
  return message;
}

control::CoordinatorMessage OutcomeMessage(const SendOutcome& outcome) {
  control::CoordinatorMessage message;
  message.mutable_save_outcome()->set_step(outcome.step);
  message.mutable_save_outcome()->set_attempt(outcome.attempt);
  message.mutable_save_outcome()->set_committed(outcome.committed);
  message.mutable_save_outcome()->set_reason(outcome.reason);
  return message;
}

}  // namespace weft
