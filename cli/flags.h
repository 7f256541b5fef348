// Flags of a subcommand: `--name value`, `--name=value`, switches, `--help`, and what stands without a flag. Messages are
// for people: an unknown flag names the nearest one.
//
//   FlagParser flags("weft data inspect", "SHARD [flags]", "Shows the samples of a tar shard.");
//   flags.Int("limit", &limit, "samples that are shown");
//   const ParsedFlags parsed = flags.Parse(args);
//   if (parsed.exit_code) return *parsed.exit_code;   // help was asked for, or the use was wrong; it is printed already
//   parsed.positional ...
//
// Thread rule: one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cluster/base/status.h"

namespace weft {

// What a program leaves with after a wrong flag, recipe or path on its command line.
inline constexpr int kExitUsage = 2;

struct ParsedFlags {
  std::optional<int> exit_code;
  std::vector<std::string> positional;
};

class FlagParser {
 public:
  FlagParser(std::string command, std::string usage, std::string description);

  // Each flag has the default that its variable holds now. Variables outlive Parse.
  void String(const std::string& name, std::string* value, const std::string& help);
  void Int(const std::string& name, int64_t* value, const std::string& help);
  void Double(const std::string& name, double* value, const std::string& help);
  // A switch: present or not.
  void Bool(const std::string& name, bool* value, const std::string& help);
  // May be given many times.
  void Strings(const std::string& name, std::vector<std::string>* values, const std::string& help);
  // A line under "Examples:".
  void Example(const std::string& line);
  // Least and most arguments without a flag. Default: none.
  void Positional(size_t least, size_t most);

  ParsedFlags Parse(const std::vector<std::string>& args) const;
  std::string Help() const;

 private:
  struct Flag {
    std::string name;
    std::string value_name;  // "" for a switch
    std::string shown_default;
    std::string help;
    std::function<Status(const std::string& text)> set;
  };
  void Add(Flag flag) { flags_.push_back(std::move(flag)); }
  StatusOr<const Flag*> Find(const std::string& name) const;
  Status ParseInto(const std::vector<std::string>& args,
                   std::vector<std::string>* positional) const;

  std::string command_;
  std::string usage_;
  std::string description_;
  std::vector<Flag> flags_;
  std::vector<std::string> examples_;
  size_t least_positional_ = 0;
  size_t most_positional_ = 0;
};

// Prints "weft CMD: message" to stderr; returns the exit code that fits: kExitUsage for InvalidArgument, else 1.
int ReportError(const std::string& command, const Status& status);

}  // namespace weft
