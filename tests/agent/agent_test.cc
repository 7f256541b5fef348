#include "cluster/agent/agent.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <optional>
#include <thread>

#include "cluster/config/recipe.pb.h"
#include "cluster/rpc/blocking_socket.h"
#include "cluster/rpc/frame_codec.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// The coordinator's side, step by step, against a real agent in a thread and real worker processes.
class AgentTest : public ::testing::Test {
 protected:
  void SetUp() override {
    listener_ = *ListenControl({"127.0.0.1", 0});
    options_.coordinator = listener_.endpoint;
    options_.run_token = "secret";
    options_.capacity = 2;
    options_.worker_program = WEFT_FAKE_WORKER;
    options_.connect_timeout = seconds(5);
    options_.handle_signals = false;
  }
  void TearDown() override {
    coordinator_.reset();  // the agent ends with its connection
    ::close(listener_.fd);
    if (agent_.joinable()) agent_.join();
  }

  void StartAgent() {
    agent_ = std::thread([this] { end_ = RunAgent(options_); });
  }
  void Accept() {
    pollfd waiting = {listener_.fd, POLLIN, 0};
    ASSERT_EQ(::poll(&waiting, 1, 5000), 1);
    coordinator_.emplace(::accept4(listener_.fd, nullptr, nullptr, SOCK_CLOEXEC));
  }
  void Send(control::Frame frame, uint64_t generation) {
    frame.mutable_token()->set_epoch(1);
    frame.mutable_token()->set_generation(generation);
    ASSERT_TRUE(coordinator_->Send(frame, Clock::now() + seconds(5)).ok());
  }
  // The next frame with that body; heartbeats and progress are passed over.
  control::Frame Expect(control::Frame::BodyCase body) {
    while (true) {
      auto frame = coordinator_->Receive(Clock::now() + seconds(5));
      if (!frame.ok()) {
        ADD_FAILURE() << frame.status();
        return {};
      }
      if (frame->body_case() == body) return *frame;
      const bool noise = frame->has_heartbeat() || frame->has_from_worker();
      if (!noise) ADD_FAILURE() << "unexpected " << FrameName(*frame);
    }
  }
  control::WorkerMessage ExpectFromWorker(int rank, control::WorkerMessage::BodyCase body) {
    while (true) {
      const control::Frame frame = Expect(control::Frame::kFromWorker);
      if (!frame.has_from_worker()) return {};
      if (frame.from_worker().rank() == rank && frame.from_worker().message().body_case() == body) {
        last_token_ = frame.token();
        return frame.from_worker().message();
      }
    }
  }
  void Welcome(double heartbeat_s = 0.2, double lease_s = 10) {
    Expect(control::Frame::kAgentHello);
    control::Frame frame;
    frame.mutable_welcome()->set_agent_id(1);
    frame.mutable_welcome()->set_heartbeat_s(heartbeat_s);
    frame.mutable_welcome()->set_lease_s(lease_s);
    Send(frame, 0);
  }
  void Spawn(uint64_t generation, std::vector<int> ranks) {
    control::Frame frame;
    for (const int rank : ranks) frame.mutable_spawn()->add_ranks(rank);
    frame.mutable_spawn()->set_log_dir(dir_ / "logs");
    Send(frame, generation);
  }
  void StartRankZero(uint64_t generation, int64_t steps) {
    Recipe recipe;
    recipe.set_steps(steps);
    recipe.mutable_run()->set_checkpoint_every(0);
    control::Frame frame;
    frame.mutable_to_worker()->set_rank(0);
    auto* start = frame.mutable_to_worker()->mutable_message()->mutable_start();
    start->set_world_size(1);
    start->set_recipe(recipe.SerializeAsString());
    start->add_endpoints("unused");
    Send(frame, generation);
  }
  void Kill(uint64_t generation, double grace_s) {
    control::Frame frame;
    frame.mutable_kill_workers()->set_grace_s(grace_s);
    Send(frame, generation);
  }

  testing::TempDir dir_;
  ControlListener listener_;
  AgentOptions options_;
  std::optional<BlockingSocket> coordinator_;
  std::thread agent_;
  AgentEnd end_;
  control::Token last_token_;
};

TEST_F(AgentTest, SaysHelloWithItsTokenAndCapacity) {
  StartAgent();
  Accept();
  const control::Frame hello = Expect(control::Frame::kAgentHello);
  EXPECT_EQ(hello.agent_hello().run_token(), "secret");
  EXPECT_EQ(hello.agent_hello().capacity(), 2);
  EXPECT_EQ(hello.agent_hello().pid(), ::getpid());
  EXPECT_FALSE(hello.agent_hello().incarnation().empty());
}

TEST_F(AgentTest, LeavesWithTheReasonWhenItIsRefused) {
  StartAgent();
  Accept();
  control::Frame refused;
  refused.mutable_refused()->set_reason("wrong token");
  Send(refused, 0);
  agent_.join();
  EXPECT_EQ(end_.exit_code, 1);
  EXPECT_NE(end_.reason.find("wrong token"), std::string::npos) << end_.reason;
}

TEST_F(AgentTest, WaitsForACoordinatorUntilItsDeadline) {
  ::close(listener_.fd);
  listener_.fd = -1;
  options_.connect_timeout = milliseconds(500);
  const TimePoint start = Clock::now();
  StartAgent();
  agent_.join();
  EXPECT_GE(Clock::now() - start, milliseconds(250));
  EXPECT_EQ(end_.exit_code, 1);
  EXPECT_NE(end_.reason.find("no coordinator"), std::string::npos) << end_.reason;
}

TEST_F(AgentTest, RelaysAWorkersLifeUnderItsToken) {
  StartAgent();
  Accept();
  Welcome();
  Spawn(3, {0});
  const auto hello = ExpectFromWorker(0, control::WorkerMessage::kHello);
  EXPECT_EQ(last_token_.generation(), 3u);
  EXPECT_GT(hello.hello().pid(), 0);
  StartRankZero(3, 2);
  EXPECT_EQ(ExpectFromWorker(0, control::WorkerMessage::kStep).step().step(), 1);
  // The save is refused, so the worker goes on to its end.
  ExpectFromWorker(0, control::WorkerMessage::kSaveRequest);
  control::Frame outcome;
  outcome.mutable_to_worker()->mutable_message()->mutable_save_outcome()->set_committed(false);
  Send(outcome, 3);
  EXPECT_TRUE(ExpectFromWorker(0, control::WorkerMessage::kFinished).finished().complete());
  const control::Frame exited = Expect(control::Frame::kWorkerExited);
  EXPECT_EQ(exited.worker_exited().exit_code(), 0);
  EXPECT_EQ(exited.worker_exited().signal(), 0);
}

TEST_F(AgentTest, TellsADeathBySignalWithinATenthOfASecond) {
  StartAgent();
  Accept();
  Welcome();
  Spawn(1, {0});
  const pid_t pid = ExpectFromWorker(0, control::WorkerMessage::kHello).hello().pid();
  const TimePoint killed = Clock::now();
  ::kill(pid, SIGKILL);
  const control::Frame exited = Expect(control::Frame::kWorkerExited);
  EXPECT_LT(Clock::now() - killed, milliseconds(100));
  EXPECT_EQ(exited.worker_exited().rank(), 0);
  EXPECT_EQ(exited.worker_exited().pid(), pid);
  EXPECT_EQ(exited.worker_exited().signal(), SIGKILL);
}

TEST_F(AgentTest, AWorkersLastWordsComeBeforeItsExit) {
  ::setenv("WEFT_FAKE_FAULT", "fail:0:0", 1);
  StartAgent();
  Accept();
  Welcome();
  Spawn(1, {0});
  ExpectFromWorker(0, control::WorkerMessage::kHello);
  StartRankZero(1, 5);
  const auto failed = ExpectFromWorker(0, control::WorkerMessage::kFailed);
  EXPECT_EQ(failed.failed().message(), "made to fail");
  EXPECT_EQ(Expect(control::Frame::kWorkerExited).worker_exited().exit_code(), 1);
  ::unsetenv("WEFT_FAKE_FAULT");
}

TEST_F(AgentTest, KillsAllAndSaysWhenTheyAreGone) {
  StartAgent();
  Accept();
  Welcome();
  Spawn(1, {0, 1});
  const pid_t first = ExpectFromWorker(0, control::WorkerMessage::kHello).hello().pid();
  Kill(1, 0);
  Expect(control::Frame::kWorkerExited);
  Expect(control::Frame::kWorkerExited);
  EXPECT_EQ(Expect(control::Frame::kWorkersGone).token().generation(), 1u);
  EXPECT_NE(::kill(first, 0), 0);
  Spawn(2, {0});
  ExpectFromWorker(0, control::WorkerMessage::kHello);
  EXPECT_EQ(last_token_.generation(), 2u);
}

// A process with threads ends in steps; its pidfd may be readable before it can be reaped.
TEST_F(AgentTest, ReapsWorkersThatAreKilledWhileTheyLeave) {
  StartAgent();
  Accept();
  Welcome(/*heartbeat_s=*/1, /*lease_s=*/100);
  for (uint64_t generation = 1; generation <= 20; ++generation) {
    Spawn(generation, {0});
    ExpectFromWorker(0, control::WorkerMessage::kHello);
    StartRankZero(generation, 0);
    ExpectFromWorker(0, control::WorkerMessage::kFinished);
    std::this_thread::sleep_for(milliseconds(generation % 8));
    Kill(generation, 0);
    ASSERT_TRUE(Expect(control::Frame::kWorkerExited).has_worker_exited()) << generation;
    ASSERT_TRUE(Expect(control::Frame::kWorkersGone).has_workers_gone()) << generation;
  }
}

TEST_F(AgentTest, AWorkerThatIgnoresSigtermIsKilledAfterTheGrace) {
  ::setenv("WEFT_FAKE_FAULT", "deaf:0:0", 1);
  StartAgent();
  Accept();
  Welcome();
  Spawn(1, {0});
  ExpectFromWorker(0, control::WorkerMessage::kHello);
  StartRankZero(1, 5);
  std::this_thread::sleep_for(milliseconds(100));
  const TimePoint start = Clock::now();
  Kill(1, 0.4);
  EXPECT_EQ(Expect(control::Frame::kWorkerExited).worker_exited().signal(), SIGKILL);
  EXPECT_GE(Clock::now() - start, milliseconds(390));
  ::unsetenv("WEFT_FAKE_FAULT");
}

TEST_F(AgentTest, DropsWhatCarriesAnOlderToken) {
  StartAgent();
  Accept();
  Welcome();
  Spawn(2, {0});
  const pid_t pid = ExpectFromWorker(0, control::WorkerMessage::kHello).hello().pid();
  Kill(1, 0);  // of the generation before
  std::this_thread::sleep_for(milliseconds(100));
  EXPECT_EQ(::kill(pid, 0), 0);
}

TEST_F(AgentTest, AProgramThatIsNotThereIsAFailureThatNamesIt) {
  options_.worker_program = "/no/such/weft-worker";
  StartAgent();
  Accept();
  Welcome();
  Spawn(1, {0});
  const auto failed = ExpectFromWorker(0, control::WorkerMessage::kFailed);
  EXPECT_EQ(failed.failed().code(), static_cast<int>(StatusCode::kInvalidArgument));
  EXPECT_NE(failed.failed().message().find("/no/such/weft-worker"), std::string::npos);
  EXPECT_EQ(Expect(control::Frame::kWorkerExited).worker_exited().exit_code(), 127);
}

// As the dynamic loader ends a program whose libraries are not there.
TEST_F(AgentTest, AWorkerThatCannotLoadSaysWhatIsMissing) {
  const testing::TempDir dir;
  options_.worker_program = dir / "weft-worker";
  std::ofstream(options_.worker_program)
      << "#!/bin/sh\necho 'libx.so.1: cannot open' >&2\nexit 127\n";
  ::chmod(options_.worker_program.c_str(), 0755);
  StartAgent();
  Accept();
  Welcome();
  Spawn(1, {0});
  const auto failed = ExpectFromWorker(0, control::WorkerMessage::kFailed);
  EXPECT_EQ(failed.failed().code(), static_cast<int>(StatusCode::kInvalidArgument));
  EXPECT_EQ(failed.failed().message(), "the worker cannot start: libx.so.1: cannot open");
  EXPECT_EQ(Expect(control::Frame::kWorkerExited).worker_exited().exit_code(), 127);
}

TEST_F(AgentTest, TheCoordinatorsEndEndsTheAgentAndItsWorkers) {
  StartAgent();
  Accept();
  Welcome();
  Spawn(1, {0});
  const pid_t pid = ExpectFromWorker(0, control::WorkerMessage::kHello).hello().pid();
  coordinator_.reset();
  agent_.join();
  EXPECT_EQ(end_.exit_code, 1);
  EXPECT_NE(::kill(pid, 0), 0);
}

TEST_F(AgentTest, UnansweredHeartbeatsEndItBeforeTheLease) {
  StartAgent();
  Accept();
  Welcome(/*heartbeat_s=*/0.1, /*lease_s=*/1.0);
  const TimePoint start = Clock::now();
  agent_.join();
  EXPECT_GE(Clock::now() - start, milliseconds(650));
  EXPECT_LT(Clock::now() - start, seconds(4));  // 0.7 s, and room for a busy machine
  EXPECT_NE(end_.reason.find("not answered"), std::string::npos) << end_.reason;
}

TEST_F(AgentTest, ShutdownGivesItsExitCode) {
  StartAgent();
  Accept();
  Welcome();
  control::Frame frame;
  frame.mutable_shutdown()->set_exit_code(75);
  frame.mutable_shutdown()->set_reason("stopped");
  Send(frame, 1);
  agent_.join();
  EXPECT_EQ(end_.exit_code, 75);
}

TEST_F(AgentTest, InjectsAFaultAtItsStep) {
  options_.faults = {{SIGKILL, 0, 2}};
  StartAgent();
  Accept();
  Welcome();
  Spawn(1, {0});
  ExpectFromWorker(0, control::WorkerMessage::kHello);
  StartRankZero(1, 1000);
  EXPECT_EQ(Expect(control::Frame::kWorkerExited).worker_exited().signal(), SIGKILL);
}

}  // namespace
}  // namespace weft
