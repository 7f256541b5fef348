#include "cluster/launch/mpirun.h"

#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>
#include <utility>

#include "cluster/base/file_system.h"
#include "cluster/base/logging.h"
#include "cluster/base/text.h"
#include "cluster/launch/process.h"

namespace weft {
namespace {

constexpr auto kBetweenLaunchers = std::chrono::milliseconds(200);
constexpr auto kEndsByItself = std::chrono::seconds(10);
constexpr auto kAfterTerminate = std::chrono::seconds(5);

// Empty: not in PATH.
std::string FindProgram(const std::string& name) {
  const char* path = std::getenv("PATH");
  for (const std::string& folder : Split(path == nullptr ? "/usr/bin" : path, ':')) {
    const std::string candidate = folder + "/" + name;
    if (!folder.empty() && ::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return "";
}

}  // namespace

bool UnderMpirun() { return std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr; }

std::vector<std::string> MpirunArguments(const MpirunOptions& options) {
  std::vector<std::string> argv = {
      FindProgram("mpirun"), "-n",        std::to_string(options.ranks),
      "--oversubscribe",     "--bind-to", "none"};
  // Ranks that wait for each other in MPI_Init must not take the cores of those that are still loading.
  for (const char* word : {"--mca", "mpi_yield_when_idle", "1"}) argv.push_back(word);
  if (::geteuid() == 0) argv.push_back("--allow-run-as-root");
  argv.insert(argv.end(), options.argv.begin(), options.argv.end());
  return argv;
}

Status CheckMpirun() {
  if (!FindProgram("mpirun").empty()) return OkStatus();
  return NotFound(
      "layout.backend MPI needs OpenMPI's mpirun, which is not in PATH; install it (Debian: "
      "openmpi-bin), or use "
      "layout.backend TCP");
}

class MpirunLauncher::Impl {
 public:
  explicit Impl(MpirunOptions options) : options_(std::move(options)) {}
  void Run() {
    loop_.Post([this] { Launch(); });
    loop_.Run();
    child_.reset();  // here: the child's parent is this thread
  }
  void Begin() {
    thread_ = std::thread([this] { Run(); });
  }
  void End() {
    loop_.Post([this] {
      over_ = true;
      again_.reset();
      if (child_ == nullptr || !child_->alive()) return loop_.Stop();
      terminate_ = loop_.After(kEndsByItself, [this] { child_->Signal(SIGTERM); });
      kill_ = loop_.After(kEndsByItself + kAfterTerminate, [this] { loop_.Stop(); });
    });
    thread_.join();
  }

 private:
  void Launch() {
    const Status made = PosixFileSystem()->MakeDirs(ParentPath(options_.log_path));
    if (!made.ok()) WEFT_LOG(ERROR) << "mpirun: " << made;
    ProcessOptions process;
    process.argv = MpirunArguments(options_);
    process.log_path = options_.log_path;
    auto child = ChildProcess::Spawn(&loop_, process, [this](ProcessExit exit) { OnExit(exit); });
    if (child.ok()) {
      child_ = std::move(*child);
      return;
    }
    WEFT_LOG(ERROR) << "mpirun: " << child.status();
  }
  void OnExit(ProcessExit exit) {
    if (over_) return loop_.Stop();
    WEFT_LOG(INFO) << "mpirun has ended with " << (exit.signal != 0 ? "signal " : "exit code ")
                   << (exit.signal != 0 ? exit.signal : exit.exit_code) << " (" << options_.log_path
                   << "); starting the next one";
    again_ = loop_.After(kBetweenLaunchers, [this] { Launch(); });
  }

  const MpirunOptions options_;
  EventLoop loop_;
  std::unique_ptr<ChildProcess> child_;
  std::unique_ptr<EventLoop::Registration> again_;
  std::unique_ptr<EventLoop::Registration> terminate_;
  std::unique_ptr<EventLoop::Registration> kill_;
  bool over_ = false;
  std::thread thread_;
};

MpirunLauncher::MpirunLauncher(const MpirunOptions& options)
    : impl_(std::make_unique<Impl>(options)) {
  impl_->Begin();
}

MpirunLauncher::~MpirunLauncher() { impl_->End(); }

}  // namespace weft
