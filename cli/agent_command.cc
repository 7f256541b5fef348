#include "cli/agent_command.h"

#include <cstdio>
#include <thread>

#include "cli/flags.h"
#include "cli/loader_flags.h"
#include "cluster/agent/agent.h"
#include "cluster/launch/mpirun.h"
#include "coordinator/run_directory.h"

namespace weft {
namespace {

struct AgentFlags {
  std::string coordinator;
  std::string token;
  std::string run_dir;
  int64_t capacity = 1;
  double connect_timeout_s = 60;
  std::string data_host = "127.0.0.1";
  std::string worker_program;
  LoaderFlags loader;
  std::vector<std::string> inject;
};

FlagParser MakeParser(AgentFlags* values) {
  FlagParser flags("weft agent", "(--run-dir DIR | --coordinator HOST:PORT --token TOKEN) [flags]",
                   "Holds the workers of this machine: starts them, watches them, reports their "
                   "deaths. It ends with its\n"
                   "coordinator, and no worker outlives it.");
  flags.String("run-dir", &values->run_dir, "the run's directory, where coord/endpoint says all");
  flags.String("coordinator", &values->coordinator, "the coordinator's address");
  flags.String("token", &values->token, "the run's token: the second line of coord/endpoint");
  flags.Int("capacity", &values->capacity, "ranks that this machine takes");
  flags.String(
      "data-host", &values->data_host,
      "address of this machine for the workers of other machines; loopback: there are none");
  flags.Double("connect-timeout", &values->connect_timeout_s,
               "seconds that the coordinator may take to appear");
  flags.String("worker-program", &values->worker_program,
               "the worker, for tests and debuggers; default: weft-worker beside this program");
  values->loader.AddTo(&flags);
  flags.Strings("inject", &values->inject, "a fault on purpose: kill:rank=1,step=33");
  flags.Example("weft agent --run-dir runs/a --capacity 4");
  flags.Example("mpirun -n 4 weft agent --run-dir runs/a");
  flags.Example("weft agent --run-dir shared/runs/a --capacity 4 --data-host 10.0.0.7");
  return flags;
}

// Where the coordinator is: from the flags, or from the run directory as soon as it says so.
StatusOr<RunEndpoint> FindCoordinator(const AgentFlags& values) {
  if (!values.coordinator.empty()) {
    if (values.token.empty()) return InvalidArgument("--coordinator wants --token too");
    WEFT_ASSIGN_OR_RETURN(const Endpoint endpoint, Endpoint::Parse(values.coordinator));
    return RunEndpoint{endpoint, values.token};
  }
  if (values.run_dir.empty()) {
    return InvalidArgument(
        "where is the coordinator? Give --run-dir, or --coordinator and --token");
  }
  const TimePoint deadline = Clock::now() + FromSeconds(values.connect_timeout_s);
  while (true) {
    auto found = ReadRunEndpoint(PosixFileSystem(), values.run_dir);
    if (found.ok() || found.status().code() != StatusCode::kNotFound) return found;
    if (Clock::now() > deadline) {
      return Unavailable("no coordinator in " + values.run_dir + " within " +
                         std::to_string(values.connect_timeout_s) + " s (" +
                         found.status().message() + ")");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
}

}  // namespace

int AgentCommand(const std::vector<std::string>& args) {
  AgentFlags values;
  const ParsedFlags parsed = MakeParser(&values).Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  AgentOptions options;
  for (const std::string& text : values.inject) {
    const auto fault = ParseFaultInjection(text);
    if (!fault.ok()) return ReportError("weft agent", fault.status());
    options.faults.push_back(*fault);
  }
  const Status loader = values.loader.Apply(&options);
  if (!loader.ok()) return ReportError("weft agent", loader);
  if (values.capacity < 1) {
    return ReportError("weft agent", InvalidArgument("--capacity must be at least 1"));
  }
  if (UnderMpirun() && values.capacity != 1) {
    return ReportError(
        "weft agent",
        InvalidArgument(
            "mpirun starts one agent a rank: leave --capacity out, and give mpirun -n as "
            "many as the layout has ranks"));
  }
  const auto found = FindCoordinator(values);
  if (!found.ok()) return ReportError("weft agent", found.status());
  options.coordinator = found->endpoint;
  options.run_token = found->run_token;
  options.capacity = static_cast<int>(values.capacity);
  options.data_host = values.data_host;
  options.worker_program = values.worker_program;
  options.connect_timeout = FromSeconds(values.connect_timeout_s);
  const AgentEnd end = RunAgent(options);
  if (end.exit_code != 0) std::fprintf(stderr, "weft agent: %s\n", end.reason.c_str());
  return end.exit_code;
}

}  // namespace weft
