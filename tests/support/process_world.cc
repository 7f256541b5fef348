#include "tests/support/process_world.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>

#include "cluster/base/logging.h"
#include "cluster/base/text.h"
#include "cluster/comm/tcp_communicator.h"
#include "cluster/comm/unique_fd.h"

extern char** environ;

namespace weft::testing {
namespace {

// In a rank's environment: "control fd,rank,size,call,shared memory".
constexpr char kRankVariable[] = "WEFT_PROCESS_WORLD";
// First letter of a message on the control socket (SOCK_SEQPACKET: a message is a packet).
constexpr char kEndpoint = 'E';   // rank -> test: where it listens
constexpr char kEndpoints = 'A';  // test -> rank: all of them, one a line
constexpr char kNote = 'N';
constexpr char kResult = 'R';  // status code, space, length of the message, newline, message, value
constexpr size_t kMaxMessage = 192 << 10;

struct RankIdentity {
  int control_fd = -1;
  int rank = 0;
  int size = 0;
  int call = 0;
  bool shared_memory = true;
};

// Set in a rank, empty in the test itself.
std::optional<RankIdentity> OwnIdentity() {
  const char* text = std::getenv(kRankVariable);
  if (text == nullptr) return std::nullopt;
  RankIdentity id;
  int shared = 1;
  WEFT_CHECK_EQ(
      std::sscanf(text, "%d,%d,%d,%d,%d", &id.control_fd, &id.rank, &id.size, &id.call, &shared),
      5);
  id.shared_memory = shared != 0;
  return id;
}

std::string CurrentTest() {
  const ::testing::TestInfo* info = ::testing::UnitTest::GetInstance()->current_test_info();
  WEFT_CHECK(info != nullptr) << "ProcessWorld::Run outside of a test";
  return std::string(info->test_suite_name()) + "." + info->name();
}

// 1 for the first world of a test, 2 for the second ...: the same count in the test and in its ranks.
int NextCall() {
  static std::string test;
  static int calls = 0;
  if (test != CurrentTest()) {
    test = CurrentTest();
    calls = 0;
  }
  return ++calls;
}

bool SendMessage(int fd, char type, const std::string& text) {
  WEFT_CHECK_LT(text.size(), kMaxMessage);
  const std::string message = type + text;
  return send(fd, message.data(), message.size(), MSG_NOSIGNAL) ==
         static_cast<ssize_t>(message.size());
}

// Empty: the other end is gone.
std::string ReceiveMessage(int fd) {
  std::string message(kMaxMessage + 1, '\0');
  ssize_t n;
  do {
    n = recv(fd, message.data(), message.size(), 0);
  } while (n < 0 && errno == EINTR);
  message.resize(n > 0 ? static_cast<size_t>(n) : 0);
  return message;
}

StatusOr<std::string> RunBody(const RankIdentity& id, const ProcessWorld::Body& body) {
  WEFT_ASSIGN_OR_RETURN(auto listener, Listener::Bind({}));
  SendMessage(id.control_fd, kEndpoint, listener->endpoint());
  const std::string endpoints = ReceiveMessage(id.control_fd);
  if (endpoints.empty()) std::_Exit(1);  // the test has ended
  WEFT_ASSIGN_OR_RETURN(auto communicator,
                        ConnectTcp({.rank = id.rank,
                                    .endpoints = Split(endpoints.substr(1), '\n'),
                                    .run_token = "process-world",
                                    .epoch = 1,
                                    .generation = 1,
                                    .shared_memory = id.shared_memory},
                                   *listener));
  RankProcess self(*communicator, id.control_fd);
  return body(self);
}

[[noreturn]] void RunAsRank(const RankIdentity& id, const ProcessWorld::Body& body) {
  StatusOr<std::string> result = RunBody(id, body);
  Status status = result.status();
  if (status.ok() && ::testing::Test::HasFailure())
    status = Internal("an EXPECT in the body failed");
  const std::string head = std::to_string(static_cast<int>(status.code())) + " " +
                           std::to_string(status.message().size()) + "\n";
  std::fflush(nullptr);
  SendMessage(id.control_fd, kResult, head + status.message() + (result.ok() ? *result : ""));
  std::_Exit(0);
}

// The environment of a rank: without gtest's own variables (shards, XML output).
std::vector<std::string> RankEnvironment(const RankIdentity& id) {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (std::strncmp(*variable, "GTEST_", 6) != 0) variables.emplace_back(*variable);
  }
  variables.push_back(std::string(kRankVariable) + "=" + std::to_string(id.control_fd) + "," +
                      std::to_string(id.rank) + "," + std::to_string(id.size) + "," +
                      std::to_string(id.call) + "," + (id.shared_memory ? "1" : "0"));
  return variables;
}

std::vector<char*> Pointers(std::vector<std::string>* strings) {
  std::vector<char*> pointers;
  for (std::string& string : *strings) pointers.push_back(string.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::string ReadFrom(int fd) {
  std::string text;
  char buffer[4096];
  ssize_t n;
  off_t at = 0;
  while ((n = pread(fd, buffer, sizeof(buffer), at)) > 0) {
    text.append(buffer, static_cast<size_t>(n));
    at += n;
  }
  return text;
}

Status ParseResult(const std::string& text, std::string* value) {
  int code = 0;
  size_t length = 0;
  WEFT_CHECK_EQ(std::sscanf(text.c_str(), "%d %zu\n", &code, &length), 2) << text;
  const size_t begin = text.find('\n') + 1;
  *value = text.substr(begin + length);
  const auto status_code = static_cast<StatusCode>(code);
  return status_code == StatusCode::kOk ? OkStatus()
                                        : Status(status_code, text.substr(begin, length));
}

}  // namespace

struct ProcessWorld::Child {
  pid_t pid = -1;
  UniqueFd control;
  UniqueFd output;
  std::string endpoint;
  bool reported = false;
  bool gone = false;
  RankResult result;
};

void RankProcess::Note(const std::string& text) { SendMessage(control_fd_, kNote, text); }

Status FirstFailure(const std::vector<RankResult>& results) {
  for (size_t rank = 0; rank < results.size(); ++rank) {
    if (results[rank].status.ok()) continue;
    const Status& status = results[rank].status;
    return Status(status.code(), "rank " + std::to_string(rank) + ": " + status.message() + "\n" +
                                     results[rank].output);
  }
  return OkStatus();
}

ProcessWorld::ProcessWorld(const Options& options) : options_(options) {}
ProcessWorld::~ProcessWorld() { KillAll(); }

std::vector<RankResult> ProcessWorld::Run(const Body& body, const OnNote& on_note) {
  WEFT_CHECK_EQ(call_, 0) << "one Run a world";
  call_ = NextCall();
  if (const std::optional<RankIdentity> id = OwnIdentity(); id.has_value()) {
    if (id->call == call_) RunAsRank(*id, body);
    return std::vector<RankResult>(static_cast<size_t>(options_.size));
  }
  const Status spawned = Spawn();
  if (spawned.ok()) {
    Serve(on_note);
  } else {
    KillAll();
  }
  std::vector<RankResult> results;
  for (Child& child : children_) {
    if (!spawned.ok()) child.result.status = spawned;
    results.push_back(child.result);
  }
  return results;
}

Status ProcessWorld::Spawn() {
  children_.resize(static_cast<size_t>(options_.size));
  for (int rank = 0; rank < options_.size; ++rank) {
    Child& child = children_[static_cast<size_t>(rank)];
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
      return ErrnoStatus("socketpair", errno);
    child.control = UniqueFd(ends[0]);
    UniqueFd far_end(ends[1]);
    child.output = UniqueFd(memfd_create("rank-output", MFD_CLOEXEC));
    if (!child.output.valid()) return ErrnoStatus("memfd_create", errno);
    // All that allocates is done before the fork: the test may have threads.
    std::vector<std::string> arguments = {"/proc/self/exe", "--gtest_filter=" + CurrentTest(),
                                          "--gtest_also_run_disabled_tests"};
    std::vector<std::string> variables = RankEnvironment({.control_fd = ends[1],
                                                          .rank = rank,
                                                          .size = options_.size,
                                                          .call = call_,
                                                          .shared_memory = options_.shared_memory});
    const std::vector<char*> argv = Pointers(&arguments);
    const std::vector<char*> envp = Pointers(&variables);
    child.pid = fork();
    if (child.pid < 0) return ErrnoStatus("fork", errno);
    if (child.pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);  // no rank outlives its test
      dup2(child.output.get(), STDOUT_FILENO);
      dup2(child.output.get(), STDERR_FILENO);
      const int kept = dup(far_end.get());  // without close-on-exec ...
      dup3(kept, far_end.get(), 0);         // ... under the number that the rank was told
      close(kept);
      execve(argv[0], argv.data(), envp.data());
      _exit(127);
    }
  }
  return OkStatus();
}

void ProcessWorld::Serve(const OnNote& on_note) {
  const TimePoint deadline = Clock::now() + options_.timeout;
  for (;;) {
    std::vector<pollfd> fds;
    std::vector<int> ranks;
    for (int rank = 0; rank < options_.size; ++rank) {
      const Child& child = children_[static_cast<size_t>(rank)];
      if (child.gone) continue;
      fds.push_back({.fd = child.control.get(), .events = POLLIN, .revents = 0});
      ranks.push_back(rank);
    }
    if (fds.empty()) return;
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) break;
    poll(fds.data(), fds.size(), static_cast<int>(std::min<int64_t>(left + 1, 1000)));
    for (size_t i = 0; i < fds.size(); ++i) {
      if (fds[i].revents == 0) continue;
      const std::string message = ReceiveMessage(fds[i].fd);
      if (message.empty()) {
        Reap(ranks[i]);
      } else {
        HandleMessage(ranks[i], message, on_note);
      }
    }
  }
  KillAll();
  for (Child& child : children_) {
    if (!child.reported && child.result.signal == SIGKILL) {
      child.result.status =
          DeadlineExceeded("still ran after " + HumanSeconds(ToSeconds(options_.timeout)));
    }
  }
}

void ProcessWorld::HandleMessage(int rank, const std::string& message, const OnNote& on_note) {
  Child& child = children_[static_cast<size_t>(rank)];
  const std::string text = message.substr(1);
  if (message[0] == kNote) {
    if (on_note) on_note(*this, rank, text);
  } else if (message[0] == kResult) {
    child.result.status = ParseResult(text, &child.result.value);
    child.reported = true;
  } else if (message[0] == kEndpoint) {
    child.endpoint = text;
    std::vector<std::string> endpoints;
    for (const Child& c : children_) endpoints.push_back(c.endpoint);
    if (std::count(endpoints.begin(), endpoints.end(), "") > 0) return;
    for (const Child& c : children_)
      SendMessage(c.control.get(), kEndpoints, Join(endpoints, "\n"));
  }
}

void ProcessWorld::Reap(int rank) {
  Child& child = children_[static_cast<size_t>(rank)];
  if (child.gone || child.pid < 0) return;
  int wait_status = 0;
  while (waitpid(child.pid, &wait_status, 0) < 0 && errno == EINTR) {
  }
  child.gone = true;
  child.result.ended = Clock::now();
  child.result.output = ReadFrom(child.output.get());
  if (WIFSIGNALED(wait_status)) child.result.signal = WTERMSIG(wait_status);
  if (child.reported) return;
  child.result.status =
      child.result.signal != 0
          ? Unavailable("killed by signal " + std::to_string(child.result.signal))
          : Unavailable("exited with " + std::to_string(WEXITSTATUS(wait_status)) +
                        " without a result; did the test reach this Run again?");
}

void ProcessWorld::Signal(int rank, int signal) {
  const Child& child = children_[static_cast<size_t>(rank)];
  if (!child.gone && child.pid > 0) kill(child.pid, signal);
}

void ProcessWorld::KillAll() {
  for (int rank = 0; rank < static_cast<int>(children_.size()); ++rank) {
    Signal(rank, SIGKILL);
    Reap(rank);
  }
}

}  // namespace weft::testing
