// A run from the first hello to the last goodbye, with imagined agents, a file system in memory and stepped time.
#include "coordinator/run_lifecycle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/run_recorder.h"
#include "tests/support/checkpoint_world.h"
#include "tests/support/fault_injecting_file_system.h"

namespace weft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kWorld = 2;

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

// One agent with room for both ranks.
class RunLifecycleTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(fs_.MakeDirs("run/logs").ok());
    ASSERT_TRUE(fs_.SyncDir(".").ok());
    journal_ = Journal::Open(&fs_, "run").value();
    committer_ = CheckpointCommitter::Create(&fs_, "run", journal_.get(), {}).value();
    recorder_ = RunRecorder::Open(&fs_, {.run_dir = "run"}).value();
    CoordinatorOptions options;
    options.recipe.set_steps(20);
    options.membership.world_size = kWorld;
    chronicle_ = std::make_unique<RunChronicle>(said_.get(), /*live=*/false, "run", 20,
                                                journal_.get(), recorder_.get());
    RunParts parts;
    parts.fs = &fs_;
    parts.run_dir = "run";
    parts.log_dir = "run/logs";
    parts.journal = journal_.get();
    parts.committer = committer_.get();
    parts.chronicle = chronicle_.get();
    parts.send = [this](int, const control::Frame& frame) { sent_.push_back(frame); };
    life_ = std::make_unique<RunLifecycle>(now_, options, std::move(parts));
    life_->Begin(now_);
  }

  // ---- what the agent and its workers send
  void Join() {
    control::AgentHello hello;
    hello.set_host("n1");
    hello.set_capacity(kWorld);
    agent_ = life_->OnHello(now_, hello).value();
    life_->OnJoined(now_, agent_);
  }
  void FromAgent(control::Frame frame) {
    frame.mutable_token()->set_epoch(journal_->epoch());
    frame.mutable_token()->set_generation(generation_);
    life_->OnFrame(now_, agent_, frame);
  }
  void FromWorker(int rank, const control::WorkerMessage& message) {
    control::Frame frame;
    frame.mutable_from_worker()->set_rank(rank);
    *frame.mutable_from_worker()->mutable_message() = message;
    FromAgent(frame);
  }
  void Progress(control::Phase phase, int64_t step) {
    control::WorkerMessage message;
    message.mutable_progress()->set_phase(phase);
    message.mutable_progress()->set_step(step);
    for (int rank = 0; rank < kWorld; ++rank) FromWorker(rank, message);
  }
  void StartWorkers() {
    control::WorkerMessage hello;
    hello.mutable_hello()->set_pid(7);
    hello.mutable_hello()->set_endpoint("n1:1");
    for (int rank = 0; rank < kWorld; ++rank) FromWorker(rank, hello);
    Progress(control::PHASE_TRAINING, 0);
  }
  void Save(int64_t step) {
    control::WorkerMessage request;
    request.mutable_save_request()->set_step(step);
    request.mutable_save_request()->set_train_state(TinyState(step).SerializeAsString());
    for (int rank = 0; rank < kWorld; ++rank) FromWorker(rank, request);
    const CheckpointName name = {step, journal_->epoch(), generation_, 1};
    for (int rank = 0; rank < kWorld; ++rank) {
      control::WorkerMessage shard;
      shard.mutable_shard_prepared()->set_step(step);
      shard.mutable_shard_prepared()->set_attempt(1);
      shard.mutable_shard_prepared()->set_shard_info(
          WriteTinyShard(&fs_, "run/ckpt", name, rank, kWorld)->SerializeAsString());
      FromWorker(rank, shard);
    }
  }
  void Finish(bool complete) {
    control::WorkerMessage finished;
    finished.mutable_finished()->set_step(20);
    finished.mutable_finished()->set_complete(complete);
    for (int rank = 0; rank < kWorld; ++rank) FromWorker(rank, finished);
  }
  void WorkersGone() {
    control::Frame frame;
    frame.mutable_workers_gone();
    FromAgent(frame);
  }
  void KilledBySignal(int rank, int signal) {
    control::Frame frame;
    frame.mutable_worker_exited()->set_rank(rank);
    frame.mutable_worker_exited()->set_signal(signal);
    FromAgent(frame);
  }
  void Tick(double seconds) {
    now_ += FromSeconds(seconds);
    life_->OnTick(now_);
  }

  // ---- what they got
  std::vector<std::string> Sent() {
    std::vector<std::string> names;
    for (const control::Frame& frame : std::exchange(sent_, {})) {
      const bool inner = frame.body_case() == control::Frame::kToWorker;
      const google::protobuf::Message& message =
          inner ? static_cast<const google::protobuf::Message&>(frame.to_worker().message())
                : frame;
      const auto* body = message.GetDescriptor()->FindOneofByName("body");
      names.push_back(message.GetReflection()->GetOneofFieldDescriptor(message, body)->name());
    }
    return names;
  }
  std::string Said() {
    std::string text(1 << 16, '\0');
    std::fflush(said_.get());
    std::rewind(said_.get());
    text.resize(std::fread(text.data(), 1, text.size(), said_.get()));
    return text;
  }

  FaultInjectingFileSystem fs_;
  TimePoint now_ = TimePoint() + FromSeconds(1);
  std::unique_ptr<std::FILE, CloseFile> said_{std::tmpfile()};
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<CheckpointCommitter> committer_;
  std::unique_ptr<RunRecorder> recorder_;
  std::unique_ptr<RunChronicle> chronicle_;
  std::unique_ptr<RunLifecycle> life_;
  std::vector<control::Frame> sent_;
  int agent_ = 0;
  uint64_t generation_ = 1;
};

TEST_F(RunLifecycleTest, FromTheFirstHelloToTheLastGoodbye) {
  Join();
  EXPECT_THAT(Sent(), ElementsAre("welcome", "spawn"));
  StartWorkers();
  EXPECT_EQ(sent_.front().to_worker().message().start().world_size(), kWorld);
  EXPECT_EQ(sent_.back().to_worker().message().start().rank(), 1);
  EXPECT_THAT(Sent(), ElementsAre("start", "start"));
  Save(10);
  EXPECT_TRUE(sent_.back().to_worker().message().save_outcome().committed());
  EXPECT_THAT(Sent(), ElementsAre("save_grant", "save_grant", "save_outcome", "save_outcome"));
  EXPECT_EQ(life_->Snapshot(now_).checkpoints.front().step, 10);
  Finish(/*complete=*/true);
  EXPECT_THAT(Sent(), ElementsAre("kill_workers"));
  EXPECT_FALSE(life_->over());
  WorkersGone();
  EXPECT_THAT(Sent(), ElementsAre("shutdown"));
  EXPECT_TRUE(life_->over());
  EXPECT_EQ(life_->end().exit_code, kExitDone);
  EXPECT_THAT(Said(), HasSubstr("done: the run is complete, 20 steps; run"));
}

TEST_F(RunLifecycleTest, ADeadWorkerBringsANewGenerationFromTheLastCommit) {
  Join();
  StartWorkers();
  Save(10);
  Sent();
  now_ += FromSeconds(5);
  KilledBySignal(1, 9);
  EXPECT_THAT(Sent(), ElementsAre("kill_workers"));
  WorkersGone();
  EXPECT_THAT(Sent(), ElementsAre("spawn"));
  generation_ = 2;
  now_ += FromSeconds(2);
  StartWorkers();
  checkpoint::Manifest manifest;
  ASSERT_TRUE(manifest.ParseFromString(sent_.front().to_worker().message().start().manifest()));
  EXPECT_EQ(manifest.state().step(), 10);
  now_ += FromSeconds(1);
  control::WorkerMessage step;
  step.mutable_step()->set_step(11);
  FromWorker(0, step);
  const RunStatus status = life_->Snapshot(now_);
  ASSERT_EQ(status.recoveries.size(), 1u);
  EXPECT_EQ(status.recoveries.front().from_step, 10);
  EXPECT_DOUBLE_EQ(status.recoveries.front().seconds, 3);
  EXPECT_THAT(Said(), HasSubstr("rank 1 (host n1, pid 7) was killed by signal 9"));
}

TEST_F(RunLifecycleTest, AFrameOfAnotherGenerationIsCountedAndDropped) {
  Join();
  generation_ = 0;
  StartWorkers();
  EXPECT_THAT(Sent(), ElementsAre("welcome", "spawn"));
  EXPECT_EQ(life_->Snapshot(now_).stale_frames, 4u);
}

TEST_F(RunLifecycleTest, AShardThatDoesNotVerifyAtStartIsNotUsedAgain) {
  Join();
  StartWorkers();
  Save(10);
  KilledBySignal(0, 9);
  WorkersGone();
  generation_ = 2;
  StartWorkers();
  Progress(control::PHASE_LOADING, 0);
  control::WorkerMessage failed;
  failed.mutable_failed()->set_code(static_cast<int>(StatusCode::kCorruption));
  failed.mutable_failed()->set_message("crc");
  FromWorker(0, failed);
  EXPECT_TRUE(committer_->Committed().empty());
}

TEST_F(RunLifecycleTest, AJournalThatCannotBeWrittenEndsTheRun) {
  fs_.FailCall(1, ResourceExhausted("full"));
  Join();
  EXPECT_THAT(Sent(), ElementsAre("welcome", "kill_workers"));
  WorkersGone();
  EXPECT_TRUE(life_->over());
  EXPECT_EQ(life_->end().exit_code, kExitFailed);
  EXPECT_THAT(life_->end().message, HasSubstr("the journal cannot be written"));
}

TEST_F(RunLifecycleTest, TheFirstSignalStopsAtAStepAndTheSecondAtOnce) {
  Join();
  StartWorkers();
  Sent();
  life_->OnSignal(now_, "SIGINT");
  EXPECT_THAT(Sent(), ElementsAre("stop", "stop"));
  life_->OnSignal(now_, "SIGINT");
  EXPECT_THAT(Sent(), ElementsAre("kill_workers"));
  WorkersGone();
  EXPECT_EQ(life_->end().exit_code, kExitFailed);
}

TEST_F(RunLifecycleTest, AHangIsInquiredBeforeTheGenerationEnds) {
  Join();
  StartWorkers();
  Sent();
  for (int i = 0; i < 40; ++i) {
    now_ += FromSeconds(9);
    control::Frame beat;
    beat.mutable_heartbeat()->set_sequence(1);
    FromAgent(beat);
    EXPECT_THAT(Sent(), ElementsAre("heartbeat_ack"));
    life_->OnTick(now_);
    if (!sent_.empty()) break;
  }
  EXPECT_THAT(Sent(), ElementsAre("dump_recorder", "dump_recorder"));
  Tick(2);
  EXPECT_THAT(Sent(), ElementsAre("kill_workers"));
  EXPECT_TRUE(fs_.Exists("run/logs/operations.g1.log"));
  EXPECT_THAT(Said(), HasSubstr("the last operations of all ranks are in run/logs/operations"));
}

TEST_F(RunLifecycleTest, SilenceWhileThisProcessWasStoppedProvesNothing) {
  Join();
  now_ += FromSeconds(3600);
  life_->OnPaused(now_);
  Tick(0.1);
  EXPECT_TRUE(life_->HasAgent(agent_));
  Tick(3600);
  EXPECT_FALSE(life_->HasAgent(agent_));
}

}  // namespace
}  // namespace weft
