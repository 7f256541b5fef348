// A worker for tests of the control plane, without LibTorch: it speaks the protocol over its inherited socket for real,
// keeps step with its peers over TCP, saves real shards of a tiny state through checkpoint/ and resumes from them. The
// "model" is 64 numbers whose next values depend on all earlier ones, so a wrong resume shows in every later loss.
//
//   fake-worker --control-fd N --rank R
//   WEFT_FAKE_STEP_MS=5          length of a step
//   WEFT_FAKE_FAULT=mode:rank:step[:generation]   what goes wrong when that rank reaches that step; generation 0: in all
//     exit (code 3), abort, hang (no progress any more), fail (Failed, kInternal), recipe (Failed, kInvalidArgument),
//     save (its shard cannot be written), deaf (ignores SIGTERM and never leaves)
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/shard_writer.h"
#include "cluster/base/file_system.h"
#include "cluster/base/logging.h"
#include "cluster/base/mutex.h"
#include "cluster/base/text.h"
#include "cluster/config/recipe.pb.h"
#include "cluster/rpc/endpoint.h"
#include "cluster/rpc/worker_channel.h"

namespace weft {
namespace {

constexpr int kNumbers = 64;

struct Fault {
  std::string mode;
  int rank = -1;
  int64_t step = -1;
  uint64_t generation = 0;
};

Fault FaultFromEnvironment() {
  const char* text = std::getenv("WEFT_FAKE_FAULT");
  if (text == nullptr) return {};
  const std::vector<std::string> parts = Split(text, ':');
  WEFT_CHECK_GE(parts.size(), size_t{3}) << text;
  Fault fault = {parts[0], std::stoi(parts[1]), std::stoll(parts[2]), 0};
  if (parts.size() > 3) fault.generation = std::stoull(parts[3]);
  return fault;
}

TimePoint In(double seconds) { return Clock::now() + FromSeconds(seconds); }

// One byte to and from every peer each step: rank 0 takes the flags in, gives their "or" back.
class Peers {
 public:
  Peers(int rank, const ControlListener& listener) : rank_(rank), listen_fd_(listener.fd) {}

  Status Join(const control::Start& start) {
    if (rank_ != 0) {
      WEFT_ASSIGN_OR_RETURN(const Endpoint root, Endpoint::Parse(start.endpoints(0)));
      WEFT_ASSIGN_OR_RETURN(const int fd, ConnectControl(root, In(5)));
      fds_ = {fd};
      return OkStatus();
    }
    for (int i = 1; i < start.world_size(); ++i) {
      pollfd waiting = {listen_fd_, POLLIN, 0};
      if (::poll(&waiting, 1, 5000) != 1) return Unavailable("a peer did not connect");
      fds_.push_back(::accept(listen_fd_, nullptr, nullptr));
    }
    return OkStatus();
  }

  StatusOr<bool> AnyOf(bool flag) {
    char mine = flag ? 1 : 0;
    if (rank_ != 0) {
      WEFT_RETURN_IF_ERROR(Put(fds_[0], mine));
      WEFT_ASSIGN_OR_RETURN(const char all, Get(fds_[0]));
      return all != 0;
    }
    for (const int fd : fds_) {
      WEFT_ASSIGN_OR_RETURN(const char theirs, Get(fd));
      mine |= theirs;
    }
    for (const int fd : fds_) WEFT_RETURN_IF_ERROR(Put(fd, mine));
    return mine != 0;
  }

 private:
  static Status Put(int fd, char byte) {
    return ::send(fd, &byte, 1, MSG_NOSIGNAL) == 1 ? OkStatus() : Unavailable("a peer is gone");
  }
  static StatusOr<char> Get(int fd) {
    char byte = 0;
    if (::recv(fd, &byte, 1, 0) != 1) return Unavailable("a peer is gone");
    return byte;
  }
  const int rank_;
  const int listen_fd_;
  std::vector<int> fds_;
};

class FakeWorker {
 public:
  FakeWorker(int fd, int rank)
      : rank_(rank),
        fault_(FaultFromEnvironment()),
        channel_({.fd = fd, .rank = rank, .on_lost = [](const Status&) { std::_Exit(1); }}) {}

  Status Run() {
    WEFT_ASSIGN_OR_RETURN(const ControlListener listener, ListenControl({"127.0.0.1", 0}));
    control::WorkerMessage hello;
    hello.mutable_hello()->set_pid(::getpid());
    hello.mutable_hello()->set_endpoint(listener.endpoint.ToString());
    hello.mutable_hello()->set_cpu_capability("none");
    hello.mutable_hello()->set_build("fake");
    WEFT_RETURN_IF_ERROR(channel_.Send(hello));
    WEFT_ASSIGN_OR_RETURN(const control::CoordinatorMessage message, channel_.Receive(In(60)));
    start_ = message.start();
    WEFT_CHECK(recipe_.ParseFromString(start_.recipe()));
    Peers peers(rank_, listener);
    WEFT_RETURN_IF_ERROR(peers.Join(start_));
    WEFT_RETURN_IF_ERROR(Load());
    channel_.SetFlightSource([this](int) {
      control::FlightDump dump;
      dump.add_operations()->set_operation("exchange of rank " + std::to_string(rank_));
      dump.mutable_operations(0)->set_state(control::FlightOperation::STARTED);
      return dump;
    });
    return Train(&peers);
  }

  Status ReportFailure(const Status& why) {
    control::WorkerMessage message;
    message.mutable_failed()->set_code(static_cast<int>(why.code()));
    message.mutable_failed()->set_message(why.message());
    return channel_.Send(message);
  }

 private:
  Status Load() {
    WEFT_RETURN_IF_ERROR(Progress(control::PHASE_LOADING));
    for (int i = 0; i < kNumbers; ++i) numbers_[i] = 0.5f + 0.001f * static_cast<float>(i);
    if (start_.manifest().empty()) return OkStatus();
    checkpoint::Manifest manifest;
    WEFT_CHECK(manifest.ParseFromString(start_.manifest()));
    step_ = manifest.state().step();
    WEFT_ASSIGN_OR_RETURN(
        auto reader, CheckpointReader::Open(PosixFileSystem(), start_.checkpoint_dir(), manifest));
    return reader->Read("param/numbers", 0, kNumbers, numbers_);
  }

  Status Train(Peers* peers) {
    const char* ms = std::getenv("WEFT_FAKE_STEP_MS");
    const double step_s = ms == nullptr ? 0.005 : std::atof(ms) / 1000;
    WEFT_RETURN_IF_ERROR(Progress(control::PHASE_TRAINING));
    bool stop = false;
    while (step_ < recipe_.steps() && !stop) {
      WEFT_RETURN_IF_ERROR(MaybeFault());
      std::this_thread::sleep_for(FromSeconds(step_s));
      operation_ = "exchange of step " + std::to_string(step_ + 1);
      WEFT_RETURN_IF_ERROR(Progress(control::PHASE_TRAINING));
      WEFT_ASSIGN_OR_RETURN(stop, peers->AnyOf(channel_.stop_requested()));
      // The logistic map, coupled: small differences grow with every step.
      for (int i = 0; i < kNumbers; ++i) {
        const float x = numbers_[i];
        numbers_[i] = 3.9f * x * (1 - x) * 0.9f + 0.1f * numbers_[(i + 1) % kNumbers];
      }
      ++step_;
      operation_ = "step " + std::to_string(step_);
      WEFT_RETURN_IF_ERROR(Report(step_s));
      const int64_t every = recipe_.run().checkpoint_every();
      if (stop || step_ == recipe_.steps() || (every > 0 && step_ % every == 0)) {
        WEFT_RETURN_IF_ERROR(Save());
      }
    }
    if (!stop && rank_ == 0) WEFT_RETURN_IF_ERROR(Evaluate());
    control::WorkerMessage message;
    message.mutable_finished()->set_step(step_);
    message.mutable_finished()->set_complete(step_ == recipe_.steps());
    WEFT_RETURN_IF_ERROR(Progress(control::PHASE_DONE));
    return channel_.Send(message);
  }

  bool Faulty() const {
    return fault_.rank == rank_ && fault_.step == step_ &&
           (fault_.generation == 0 || fault_.generation == channel_.token().generation());
  }

  Status MaybeFault() {
    if (!Faulty()) return OkStatus();
    if (fault_.mode == "exit") std::_Exit(3);
    if (fault_.mode == "abort") std::abort();
    if (fault_.mode == "fail") return Internal("made to fail");
    if (fault_.mode == "recipe") return InvalidArgument("model.clip.vision_width: 7 is odd");
    if (fault_.mode == "deaf") ::signal(SIGTERM, SIG_IGN);
    if (fault_.mode == "deaf" || fault_.mode == "hang") {
      while (true) ::pause();
    }
    return OkStatus();
  }

  Status Progress(control::Phase phase) {
    control::WorkerMessage message;
    message.mutable_progress()->set_phase(phase);
    message.mutable_progress()->set_step(step_);
    message.mutable_progress()->set_counter(++counter_);
    message.mutable_progress()->set_operation(operation_);
    return channel_.Send(message);
  }

  Status Report(double seconds) {
    WEFT_RETURN_IF_ERROR(Progress(control::PHASE_TRAINING));
    if (rank_ != 0) return OkStatus();
    control::WorkerMessage message;
    control::StepRecord* record = message.mutable_step();
    double sum = 0;
    for (const float x : numbers_) sum += x;
    record->set_step(step_);
    record->set_loss(static_cast<float>(sum));
    record->set_samples(8);
    record->set_seconds(seconds);
    record->set_peer_wait_s(seconds / 10);
    control::Metric* lr = record->add_metrics();
    lr->set_name("lr");
    lr->set_value(0.001);
    return channel_.Send(message);
  }

  Status Save() {
    WEFT_RETURN_IF_ERROR(Progress(control::PHASE_SAVING));
    checkpoint::TrainState state;
    state.set_step(step_);
    state.set_seed(recipe_.seed());
    state.set_recipe_hash("fake");
    state.mutable_cursor()->set_manifest_hash("none");
    state.mutable_cursor()->set_next_step(step_);
    control::WorkerMessage message;
    message.mutable_save_request()->set_step(step_);
    message.mutable_save_request()->set_train_state(state.SerializeAsString());
    WEFT_RETURN_IF_ERROR(channel_.Send(message));
    WEFT_ASSIGN_OR_RETURN(control::CoordinatorMessage answer, channel_.Receive(In(60)));
    if (answer.has_save_grant()) {
      WEFT_RETURN_IF_ERROR(WriteAndReport(answer.save_grant()));
      WEFT_ASSIGN_OR_RETURN(answer, channel_.Receive(In(60)));
    }
    WEFT_CHECK(answer.has_save_outcome());
    return Progress(control::PHASE_TRAINING);
  }

  Status WriteAndReport(const control::SaveGrant& grant) {
    const int world = start_.world_size();
    const int64_t begin = kNumbers * rank_ / world;
    const int64_t end = kNumbers * (rank_ + 1) / world;
    ShardWriterOptions options = {.rank = rank_,
                                  .world_size = world,
                                  .epoch = channel_.token().epoch(),
                                  .generation = channel_.token().generation(),
                                  .step = grant.step(),
                                  .attempt = grant.attempt()};
    const std::vector<SliceData> slices = {
        FlatSlice("param/numbers", "f32", {kNumbers}, begin, end, numbers_ + begin)};
    auto info = WriteShard(PosixFileSystem(), grant.directory(), options, slices);
    if (fault_.mode == "save" && Faulty()) info = ResourceExhausted("the disk is full");
    control::WorkerMessage message;
    control::ShardPrepared* prepared = message.mutable_shard_prepared();
    prepared->set_step(grant.step());
    prepared->set_attempt(grant.attempt());
    if (info.ok()) {
      prepared->set_shard_info(info->SerializeAsString());
    } else {
      prepared->set_error(info.status().message());
    }
    return channel_.Send(message);
  }

  Status Evaluate() {
    WEFT_RETURN_IF_ERROR(Progress(control::PHASE_EVALUATING));
    control::WorkerMessage message;
    message.mutable_eval()->set_step(step_);
    message.mutable_eval()->set_details_json("{\"queries\": []}");
    control::Metric* recall = message.mutable_eval()->add_metrics();
    recall->set_name("image_to_text_r10");
    recall->set_value(0.25);
    return channel_.Send(message);
  }

  const int rank_;
  const Fault fault_;
  WorkerChannel channel_;
  control::Start start_;
  Recipe recipe_;
  int64_t step_ = 0;
  uint64_t counter_ = 0;
  std::string operation_ = "start";
  float numbers_[kNumbers] = {};
};

int Main(int argc, char** argv) {
  int fd = -1;
  int rank = -1;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--control-fd") == 0) fd = std::atoi(argv[i + 1]);
    if (std::strcmp(argv[i], "--rank") == 0) rank = std::atoi(argv[i + 1]);
  }
  InitLogging({.program = "fake-worker", .prefix = "rank " + std::to_string(rank)});
  FakeWorker worker(fd, rank);
  const Status status = worker.Run();
  if (status.ok()) return 0;
  WEFT_LOG(ERROR) << status;
  (void)worker.ReportFailure(status);
  return 1;
}

}  // namespace
}  // namespace weft

int main(int argc, char** argv) { return weft::Main(argc, argv); }
