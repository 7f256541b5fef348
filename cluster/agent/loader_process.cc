#include "cluster/agent/loader_process.h"

#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "cluster/base/logging.h"

namespace weft {
namespace {

constexpr auto kWatchEvery = std::chrono::seconds(1);
constexpr auto kHangs = std::chrono::seconds(30);
constexpr auto kFirstDelay = std::chrono::milliseconds(100);
// A loader that lived so long did not die of its start.
constexpr auto kLivedWell = std::chrono::seconds(30);

std::string DescribeExit(ProcessExit exit) {
  if (exit.signal != 0) return std::string("of ") + ::strsignal(exit.signal);
  return "with exit code " + std::to_string(exit.exit_code);
}

}  // namespace

LoaderProcess::LoaderProcess(EventLoop* loop, LoaderProcessOptions options,
                             std::unique_ptr<LoaderSegment> segment)
    : loop_(loop), options_(std::move(options)), segment_(std::move(segment)) {}

StatusOr<std::unique_ptr<LoaderProcess>> LoaderProcess::Start(EventLoop* loop,
                                                              const LoaderProcessOptions& options) {
  WEFT_ASSIGN_OR_RETURN(
      std::unique_ptr<LoaderSegment> segment,
      LoaderSegment::Create(options.regions, static_cast<size_t>(options.bytes / options.regions)));
  std::unique_ptr<LoaderProcess> loader(new LoaderProcess(loop, options, std::move(segment)));
  WEFT_RETURN_IF_ERROR(loader->Spawn());
  loader->last_watch_ = Clock::now();
  loader->watch_ = loop->Every(kWatchEvery, [loader = loader.get()] { loader->Watch(); });
  return loader;
}

Status LoaderProcess::Spawn() {
  ProcessOptions process;
  process.argv = {options_.program, "loader", "--memory-fd", std::to_string(segment_->fd())};
  process.inherited_fds = {segment_->fd()};
  process.log_path = options_.log_path;
  LoaderFront& front = segment_->front();
  started_ = last_alive_ = Clock::now();
  progress_at_start_ = front.progress;
  front.starts.fetch_add(1);
  process_.reset();
  WEFT_ASSIGN_OR_RETURN(process_, ChildProcess::Spawn(loop_, process, [this](ProcessExit exit) {
                          // Not here: it destroys the child whose callback this is.
                          restart_ = loop_->After(Duration::zero(), [this, exit] { OnExit(exit); });
                        }));
  return OkStatus();
}

void LoaderProcess::OnExit(ProcessExit exit) {
  const bool fruitful =
      segment_->front().progress != progress_at_start_ || Clock::now() - started_ > kLivedWell;
  fruitless_deaths_ = fruitful ? 0 : fruitless_deaths_ + 1;
  WEFT_LOG(WARNING) << "the loader died " << DescribeExit(exit)
                    << (fruitless_deaths_ < kMaxFruitlessDeaths ? "; it is started again" : "");
  if (fruitless_deaths_ >= kMaxFruitlessDeaths) return GiveUp(DescribeExit(exit));
  if (fruitful) return Restart();
  const Duration delay = kFirstDelay * (1 << std::min(fruitless_deaths_, 5));
  restart_ = loop_->After(delay, [this] { Restart(); });
}

void LoaderProcess::Restart() {
  const Status status = Spawn();
  if (!status.ok()) GiveUp("before it ran: " + status.message());
}

void LoaderProcess::GiveUp(const std::string& last_death) {
  LoaderFront& front = segment_->front();
  std::snprintf(front.reason, sizeof front.reason,
                "the loader process died %d times in a row without a micro-batch, the last time "
                "%s; its log %s says more. `--loader threads` reads the data in the workers",
                fruitless_deaths_, last_death.c_str(), options_.log_path.c_str());
  WEFT_LOG(ERROR) << front.reason;
  front.given_up = 1;
}

void LoaderProcess::Watch() {
  const TimePoint now = Clock::now();
  const uint64_t heartbeat = segment_->front().heartbeat;
  // A late tick means that this process was stopped too: silence proves nothing then.
  if (heartbeat != last_heartbeat_ || now - last_watch_ > 3 * kWatchEvery) last_alive_ = now;
  last_heartbeat_ = heartbeat;
  last_watch_ = now;
  if (process_ == nullptr || !process_->alive() || now - last_alive_ < kHangs) return;
  WEFT_LOG(WARNING) << "the loader (pid " << process_->pid() << ") has shown no life for "
                    << static_cast<int>(ToSeconds(now - last_alive_)) << " s; killed";
  last_alive_ = now;
  process_->Signal(SIGKILL);
}

}  // namespace weft
