// weft: the program of everything but the arithmetic (that is weft-worker). Starts in milliseconds; without LibTorch.
#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/flags.h"
#include "cluster/base/logging.h"
#include "cluster/base/text.h"

namespace weft {
namespace {

void PrintHelp() {
  std::printf(
      "Weft pretrains vision-language models, from the shard on disk to the checkpoint.\n\n"
      "Usage: weft COMMAND [arguments]; `weft COMMAND --help` says more.\n\nCommands:\n");
  for (const Command& command : Commands()) std::printf("  %-12s %s\n", command.name, command.help);
}

int Main(const std::vector<std::string>& args) {
  if (args.empty() || args[0] == "--help" || args[0] == "-h" || args[0] == "help") {
    PrintHelp();
    return args.empty() ? kExitUsage : 0;
  }
  const std::string name = args[0] == "--version" ? "version" : args[0];
  std::vector<std::string> names;
  for (const Command& command : Commands()) {
    if (name == command.name) return command.run({args.begin() + 1, args.end()});
    names.push_back(command.name);
  }
  const std::string nearest = NearestName(name, names);
  std::fprintf(stderr, "weft: unknown command '%s'%s\nTry `weft --help`.\n", name.c_str(),
               nearest.empty() ? "" : ("; did you mean '" + nearest + "'?").c_str());
  return kExitUsage;
}

}  // namespace
}  // namespace weft

int main(int argc, char** argv) {
  weft::InitLogging({.program = "weft", .min_severity = weft::LogSeverity::kInfo});
  std::signal(SIGPIPE, SIG_IGN);  // a lost peer is a Status, not the end
  return weft::Main({argv + 1, argv + argc});
}
