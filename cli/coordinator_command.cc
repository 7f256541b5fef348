#include "cli/coordinator_command.h"

#include <cstdio>

#include "cli/flags.h"
#include "cli/recipe_flags.h"
#include "coordinator/service.h"

namespace weft {

int CoordinatorCommand(const std::vector<std::string>& args) {
  RecipeFlags recipe_flags;
  std::string run_dir;
  std::string bind_text = "127.0.0.1:0";
  FlagParser flags(
      "weft coordinator", "RECIPE [flags]",
      "Decides for a run: waits for agents with room for all ranks, then trains as `weft train` "
      "does. Agents\n"
      "find it by RUN_DIR/coord/endpoint, which holds its address and the run's token.");
  flags.Positional(1, 1);
  recipe_flags.AddTo(&flags);
  flags.String("run-dir", &run_dir, "where the run is kept; default: runs/<recipe name>");
  flags.String("bind", &bind_text,
               "where it listens; give this machine's name or address for agents on others");
  flags.Example("weft coordinator recipes/clip/demo.textproto --run-dir runs/a --bind node1:29500");
  const ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  const auto bind = Endpoint::Parse(bind_text);
  if (!bind.ok()) return ReportError("weft coordinator", bind.status().WithContext("--bind"));
  const RecipeOrExit loaded = LoadForRun("weft coordinator", parsed.positional[0], recipe_flags);
  if (loaded.exit_code) return *loaded.exit_code;
  CoordinatorOptions options =
      MakeCoordinatorOptions(loaded.recipe, RunDirOrDefault(run_dir, loaded.recipe));
  options.bind = *bind;
  options.on_listening = [](const Endpoint& endpoint, const std::string&) {
    std::printf("listening on %s\n", endpoint.ToString().c_str());
    std::fflush(stdout);
  };
  const CoordinatorEnd end = RunCoordinator(options);
  if (end.exit_code != 0) std::fprintf(stderr, "weft coordinator: %s\n", end.message.c_str());
  return end.exit_code;
}

}  // namespace weft
