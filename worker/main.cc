// weft-worker: one rank. Started by an agent, which it obeys over an inherited socket; never by hand.
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "cluster/base/file_system.h"
#include "cluster/base/loader_segment.h"
#include "cluster/base/logging.h"
#include "cluster/base/text.h"
#include "cluster/comm/gpus.h"
#include "cluster/comm/nccl_connect.h"
#include "cluster/comm/tcp_communicator.h"
#include "cluster/rpc/worker_channel.h"
#include "parallel/memory.h"
#include "parallel/memory/memory_meter.h"
#include "parallel/memory/metered_allocator.h"
#include "worker/bench/bench_main.h"
#include "worker/flight_dump.h"
#include "worker/progress_reporter.h"
#include "worker/saver.h"
#include "worker/selftest/selftest_main.h"
#include "worker/session.h"
#include "worker/trainer.h"

namespace weft {
namespace {

constexpr int kExitAgentLost = 3;

struct WorkerOptions {
  int control_fd = -1;
  int rank = -1;
  std::string bind = "127.0.0.1";
  // "FD:REGION:ID:CONSECUTIVE", as the agent says it; "": this rank reads its samples itself.
  std::string loader;
};

StatusOr<WorkerOptions> ParseArguments(int argc, char** argv) {
  WorkerOptions options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    if (flag == "--control-fd") {
      options.control_fd = std::atoi(argv[i + 1]);
    } else if (flag == "--rank") {
      options.rank = std::atoi(argv[i + 1]);
    } else if (flag == "--bind") {
      options.bind = argv[i + 1];
    } else if (flag == "--loader") {
      options.loader = argv[i + 1];
    } else {
      return InvalidArgument("unknown flag " + flag);
    }
  }
  if (options.control_fd < 0 || options.rank < 0) {
    return InvalidArgument(
        "weft-worker is started by `weft train` or `weft agent`; see `weft --help`");
  }
  return options;
}

StatusOr<std::optional<LoaderSeat>> ParseSeat(const std::string& text) {
  if (text.empty()) return std::optional<LoaderSeat>();
  int fd = -1;
  int region = -1;
  int consecutive = 0;
  unsigned long long id = 0;
  if (std::sscanf(text.c_str(), "%d:%d:%llu:%d", &fd, &region, &id, &consecutive) != 4)
    return InvalidArgument("--loader '" + text + "' is not FD:REGION:ID:CONSECUTIVE");
  WEFT_ASSIGN_OR_RETURN(std::shared_ptr<LoaderSegment> segment, LoaderSegment::Adopt(fd));
  if (region < 0 || region >= segment->regions())
    return InvalidArgument("--loader '" + text + "': there is no such region");
  LoaderSeat seat;
  seat.segment = std::move(segment);
  seat.region = region;
  seat.consecutive = consecutive != 0;
  seat.id = id;
  return std::optional<LoaderSeat>(std::move(seat));
}

Status SayHello(int rank, WorkerChannel* channel, const Listener& listener) {
  control::WorkerMessage message;
  control::WorkerHello* hello = message.mutable_hello();
  hello->set_pid(::getpid());
  hello->set_endpoint(listener.endpoint());
  hello->set_cpu_capability(at::get_cpu_capability());
  for (const GpuInfo& info : ListGpus()) {
    control::Gpu* gpu = hello->add_gpus();
    gpu->set_uuid(info.uuid);
    gpu->set_name(info.name);
    gpu->set_memory_bytes(info.memory_bytes);
    gpu->set_reads_host_memory(info.reads_host_memory);
  }
  if (rank == 0 && !hello->gpus().empty()) {
    WEFT_ASSIGN_OR_RETURN(const NcclUniqueId id, MakeNcclUniqueId());
    hello->set_comm_id(id.data(), id.size());
  }
  return channel->Send(message);
}

void SayFailed(WorkerChannel* channel, const Status& status) {
  control::WorkerMessage message;
  message.mutable_failed()->set_code(static_cast<int>(status.code()));
  message.mutable_failed()->set_message(status.message());
  const Status sent = channel->Send(message);
  if (!sent.ok()) WEFT_LOG(ERROR) << "could not report the failure: " << sent;
}

// The one place where exceptions of libraries become a Status. `who` computes: "rank 3 on cuda:1".
template <typename F>
Status CatchExceptions(const F& f, const std::string& who = "this process") {
  try {
    return f();
  } catch (const c10::OutOfMemoryError& error) {
    const std::string text = error.what_without_backtrace();
    return ResourceExhausted(who + " has no memory left (" + text.substr(0, text.find('\n')) +
                             "); use a smaller batch.micro_batch_size, layout.recompute: "
                             "RECOMPUTE_FULL, a higher layout.zero_stage or more ranks");
  } catch (const c10::Error& error) {
    return Internal(std::string("LibTorch: ") + error.what_without_backtrace());
  } catch (const std::bad_alloc&) {
    return ResourceExhausted(who +
                             " has no memory left on the host; use a smaller "
                             "batch.micro_batch_size or more ranks");
  } catch (const std::exception& error) {
    return Internal(error.what());
  }
}

Status Train(const control::Start& start, const WorkerOptions& options, WorkerChannel* channel,
             Listener* listener, ProgressReporter* progress) {
  MemoryMeter meter;
  const MeterThread attached(&meter);
  progress->Enter(control::PHASE_LOADING, 0);
  WEFT_ASSIGN_OR_RETURN(std::optional<LoaderSeat> seat, ParseSeat(options.loader));
  WEFT_ASSIGN_OR_RETURN(
      const std::unique_ptr<Session> session,
      Session::Create(start, channel->token(), listener, std::move(seat), PosixFileSystem()));
  std::optional<MeterOtherThreads> others;
  if (!session->parallel().device().is_cpu()) others.emplace(&meter);
  progress->SetOperationSource([&session] { return session->CurrentOperation(); });
  channel->SetFlightSource(
      [&session](int last) { return DumpFlightRecorder(session->flight_recorder(), last); });
  SaverOptions saver_options;
  saver_options.rank = start.rank();
  saver_options.world_size = start.world_size();
  Saver saver(saver_options, PosixFileSystem(), channel);
  // Caught here, so that what looks into the session is gone before it.
  const Status status = CatchExceptions(
      [&] { return Trainer(session.get(), &saver, channel, progress).Run(); },
      "rank " + std::to_string(start.rank()) + " on " + session->parallel().device().Name());
  if (!status.ok()) session->Abort(status);
  WEFT_LOG(INFO) << "tensor memory of this rank:\n" << meter.Report().Table();
  progress->SetOperationSource(nullptr);
  channel->SetFlightSource(nullptr);
  return status;
}

void LogGpu(int number) {
  const std::vector<GpuInfo> gpus = ListGpus();
  if (number < 0 || number >= static_cast<int>(gpus.size())) return;
  const GpuInfo& gpu = gpus[static_cast<size_t>(number)];
  WEFT_LOG(INFO) << "computes on GPU " << number << ", " << gpu.name << " with "
                 << HumanBytes(static_cast<double>(gpu.memory_bytes));
}

Status Run(const WorkerOptions& options, WorkerChannel* channel) {
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<Listener> listener,
                        Listener::Bind({.host = options.bind}));
  ProgressReporter progress(channel, std::chrono::milliseconds(250));
  WEFT_RETURN_IF_ERROR(SayHello(options.rank, channel, *listener));
  WEFT_ASSIGN_OR_RETURN(const control::CoordinatorMessage message,
                        channel->Receive(Clock::now() + std::chrono::minutes(10)));
  if (!message.has_start()) return Internal("expected Start from the coordinator");
  const control::Start& start = message.start();
  SetLogPrefix("rank " + std::to_string(start.rank()) + " generation " +
               std::to_string(channel->token().generation()));
  Recipe recipe;
  if (!recipe.ParseFromString(start.recipe()))
    return Internal("the coordinator's recipe does not parse");
  if (recipe.layout().device() == CUDA) LogGpu(start.gpu());
  at::set_num_threads(recipe.threads_per_rank());
  return Train(start, options, channel, listener.get(), &progress);
}

}  // namespace

int WorkerMain(int argc, char** argv) {
  InitLogging({.program = "weft-worker"});
  if (argc > 1 && std::strcmp(argv[1], "bench") == 0) return BenchMain(argc - 2, argv + 2);
  if (argc > 1 && std::strcmp(argv[1], "selftest") == 0) return SelftestMain(argc - 2, argv + 2);
  KeepFreedMemory();
  InstallMeteredAllocator();
  const StatusOr<WorkerOptions> options = ParseArguments(argc, argv);
  if (!options.ok()) {
    std::fprintf(stderr, "weft-worker: %s\n", options.status().message().c_str());
    return 2;
  }
  WorkerChannelOptions channel_options;
  channel_options.fd = options->control_fd;
  channel_options.rank = options->rank;
  // Without its agent a worker must not go on: somebody else may already have its place.
  channel_options.on_lost = [](const Status&) { std::_Exit(kExitAgentLost); };
  WorkerChannel channel(std::move(channel_options));
  const Status status = CatchExceptions([&] { return Run(*options, &channel); });
  if (status.ok()) return 0;
  WEFT_LOG(ERROR) << status;
  SayFailed(&channel, status);
  return 1;
}

}  // namespace weft

int main(int argc, char** argv) { return weft::WorkerMain(argc, argv); }
