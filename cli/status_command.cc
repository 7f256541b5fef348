#include "cli/status_command.h"

#include <cstdio>
#include <filesystem>

#include "cli/flags.h"
#include "cluster/base/file_system.h"
#include "cluster/rpc/blocking_socket.h"
#include "coordinator/journal.h"
#include "coordinator/run_directory.h"
#include "coordinator/run_status.h"

namespace weft {
namespace {

constexpr auto kTimeout = std::chrono::seconds(5);

StatusOr<std::string> AskForStatus(const RunEndpoint& where) {
  const TimePoint deadline = Clock::now() + kTimeout;
  WEFT_ASSIGN_OR_RETURN(const int fd, ConnectControl(where.endpoint, deadline));
  BlockingSocket socket(fd);
  control::Frame request;
  request.mutable_status_request()->set_run_token(where.run_token);
  WEFT_RETURN_IF_ERROR(socket.Send(request, deadline));
  WEFT_ASSIGN_OR_RETURN(const control::Frame reply, socket.Receive(deadline));
  if (reply.has_refused()) return FailedPrecondition("refused: " + reply.refused().reason());
  return reply.status_reply().json();
}

// What the files say of a run that nobody coordinates now.
StatusOr<std::string> DescribeAtRest(const std::string& run_dir) {
  if (!std::filesystem::exists(JoinPath(run_dir, "coord"))) {
    return NotFound(run_dir + " is no run directory (it has no coord/)");
  }
  WEFT_ASSIGN_OR_RETURN(const JournalState state, ReplayJournal(PosixFileSystem(), run_dir));
  std::string text = run_dir + ": no coordinator is running";
  if (state.finished)
    text += "; the last one ended with exit code " + std::to_string(state.finished_exit_code);
  text += state.committed.empty()
              ? "; no checkpoint is committed"
              : "; the last checkpoint is of step " + std::to_string(state.committed.back().step());
  return text + "\n";
}

StatusOr<RunEndpoint> Where(const std::string& target, const std::string& token) {
  if (!token.empty()) {
    WEFT_ASSIGN_OR_RETURN(const Endpoint endpoint, Endpoint::Parse(target));
    return RunEndpoint{endpoint, token};
  }
  if (!std::filesystem::exists(target) && Endpoint::Parse(target).ok()) {
    return InvalidArgument("asking " + target +
                           " wants --token (the second line of the run's coord/endpoint)");
  }
  return ReadRunEndpoint(PosixFileSystem(), target);
}

}  // namespace

int StatusCommand(const std::vector<std::string>& args) {
  bool json = false;
  std::string token;
  FlagParser flags("weft status", "RUN_DIR | HOST:PORT [flags]", "Shows what a run is doing now.");
  flags.Positional(1, 1);
  flags.Bool("json", &json, "as JSON");
  flags.String("token", &token, "the run's token, with HOST:PORT");
  flags.Example("weft status runs/clip-demo");
  const ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  const std::string& target = parsed.positional[0];

  const auto where = Where(target, token);
  auto reply = where.ok() ? AskForStatus(*where) : StatusOr<std::string>(where.status());
  if (!reply.ok() && reply.status().code() != StatusCode::kInvalidArgument && !json &&
      token.empty()) {
    const auto text = DescribeAtRest(target);
    if (!text.ok()) return ReportError("weft status", text.status());
    std::fputs(text->c_str(), stdout);
    return 1;
  }
  if (!reply.ok()) return ReportError("weft status", reply.status());
  const std::string table = json ? "" : StatusTable(*reply);
  std::printf("%s%s", table.empty() ? reply->c_str() : table.c_str(), table.empty() ? "\n" : "");
  return 0;
}

}  // namespace weft
