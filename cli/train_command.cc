#include "cli/train_command.h"

#include <cstdio>
#include <memory>
#include <thread>

#include "cli/flags.h"
#include "cli/loader_flags.h"
#include "cli/recipe_flags.h"
#include "cluster/agent/agent.h"
#include "cluster/base/file_system.h"
#include "cluster/launch/mpirun.h"
#include "cluster/launch/process.h"
#include "coordinator/service.h"

namespace weft {
namespace {

struct TrainFlags {
  RecipeFlags recipe;
  std::string run_dir;
  std::string bind = "127.0.0.1:0";
  std::string worker_program;
  LoaderFlags loader;
  std::vector<std::string> inject;
};

FlagParser MakeParser(TrainFlags* values) {
  FlagParser flags("weft train", "RECIPE [flags]",
                   "Trains a recipe on this machine. In a directory that holds a run of the recipe "
                   "it goes on from the "
                   "last\ncheckpoint. Ctrl-C saves and stops. Exit codes: 0 done, 75 stopped "
                   "early, 93 gave up, 2 "
                   "wrong use, 1 failed.");
  flags.Positional(1, 1);
  values->recipe.AddTo(&flags);
  flags.String("run-dir", &values->run_dir, "where the run is kept; default: runs/<recipe name>");
  flags.String("bind", &values->bind, "where the coordinator listens (port 0: any free one)");
  flags.String("worker-program", &values->worker_program,
               "the worker, for tests and debuggers; default: weft-worker beside this program");
  values->loader.AddTo(&flags);
  flags.Strings("inject", &values->inject, "a fault on purpose: kill:rank=1,step=33");
  flags.Example("weft train recipes/clip/demo.textproto");
  flags.Example("weft train recipes/clip/demo.textproto --set layout.dp=4 --run-dir runs/a");
  return flags;
}

// The agent of this machine lives in a thread of this process and dies with it, and its workers with the agent.
CoordinatorEnd RunWithAgent(CoordinatorOptions options, AgentOptions agent) {
  agent.capacity = options.membership.world_size;
  agent.handle_signals = false;
  // The one agent cannot come back by itself.
  options.membership.agent_wait = std::chrono::seconds(10);
  std::thread thread;
  AgentEnd agent_end;
  options.on_listening = [&](const Endpoint& endpoint, const std::string& run_token) {
    agent.coordinator = endpoint;
    if (endpoint.host == "0.0.0.0") agent.coordinator.host = "127.0.0.1";
    if (endpoint.host == "::") agent.coordinator.host = "::1";
    agent.run_token = run_token;
    thread = std::thread([agent, &agent_end] { agent_end = RunAgent(agent); });
  };
  CoordinatorEnd end = RunCoordinator(options);
  if (thread.joinable()) thread.join();
  // An agent that ended by itself knows more than the coordinator that lost it.
  if (end.exit_code == kExitFailed && agent_end.reason != end.message &&
      !agent_end.reason.empty()) {
    end.message += "; the agent: " + agent_end.reason;
  }
  return end;
}

// Over MPI mpirun starts an agent a rank, each in a process of its own.
CoordinatorEnd RunWithMpirun(CoordinatorOptions options, const TrainFlags& values) {
  if (const Status found = CheckMpirun(); !found.ok()) return {kExitFailed, found.message()};
  MpirunOptions mpirun;
  mpirun.ranks = options.membership.world_size;
  mpirun.argv = {OwnProgram(), "agent", "--run-dir", options.run_dir};
  if (!values.worker_program.empty())
    mpirun.argv.insert(mpirun.argv.end(), {"--worker-program", values.worker_program});
  for (const std::string& fault : values.inject)
    mpirun.argv.insert(mpirun.argv.end(), {"--inject", fault});
  mpirun.log_path = JoinPath(options.run_dir, "logs/mpirun.log");
  options.membership.agent_wait = std::chrono::seconds(30);
  std::unique_ptr<MpirunLauncher> launcher;
  options.on_listening = [&](const Endpoint&, const std::string&) {
    launcher = std::make_unique<MpirunLauncher>(mpirun);
  };
  CoordinatorEnd end = RunCoordinator(options);
  launcher.reset();
  if (end.exit_code == kExitFailed) end.message += "; what mpirun said is in " + mpirun.log_path;
  return end;
}

}  // namespace

int TrainCommand(const std::vector<std::string>& args) {
  TrainFlags values;
  const ParsedFlags parsed = MakeParser(&values).Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  AgentOptions agent;
  agent.worker_program = values.worker_program;
  const Status loader = values.loader.Apply(&agent);
  if (!loader.ok()) return ReportError("weft train", loader);
  for (const std::string& text : values.inject) {
    const auto fault = ParseFaultInjection(text);
    if (!fault.ok()) return ReportError("weft train", fault.status());
    agent.faults.push_back(*fault);
  }
  const auto bind = Endpoint::Parse(values.bind);
  if (!bind.ok()) return ReportError("weft train", bind.status().WithContext("--bind"));
  const RecipeOrExit loaded = LoadForRun("weft train", parsed.positional[0], values.recipe);
  if (loaded.exit_code) return *loaded.exit_code;
  CoordinatorOptions options =
      MakeCoordinatorOptions(loaded.recipe, RunDirOrDefault(values.run_dir, loaded.recipe));
  options.bind = *bind;
  const bool over_mpi =
      loaded.recipe.layout().backend() == MPI && options.membership.world_size > 1;
  const CoordinatorEnd end = over_mpi ? RunWithMpirun(std::move(options), values)
                                      : RunWithAgent(std::move(options), std::move(agent));
  if (end.exit_code != 0) std::fprintf(stderr, "weft train: %s\n", end.message.c_str());
  return end.exit_code;
}

}  // namespace weft
