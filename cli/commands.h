// The subcommands of `weft`, in the order of --help.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace weft {

struct Command {
  const char* name;
  const char* help;
  std::function<int(const std::vector<std::string>& args)> run;
};

std::vector<Command> Commands();

}  // namespace weft
