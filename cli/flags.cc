#include "cli/flags.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "cluster/base/text.h"

namespace weft {
namespace {

std::string ShowDouble(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

}  // namespace

FlagParser::FlagParser(std::string command, std::string usage, std::string description)
    : command_(std::move(command)),
      usage_(std::move(usage)),
      description_(std::move(description)) {}

void FlagParser::String(const std::string& name, std::string* value, const std::string& help) {
  Add({name, "TEXT", *value, help, [value](const std::string& text) {
         *value = text;
         return OkStatus();
       }});
}

void FlagParser::Int(const std::string& name, int64_t* value, const std::string& help) {
  Add({name, "N", std::to_string(*value), help, [name, value](const std::string& text) {
         char* end = nullptr;
         errno = 0;
         const long long parsed = std::strtoll(text.c_str(), &end, 10);
         if (text.empty() || *end != '\0' || errno != 0) {
           return InvalidArgument("--" + name + " takes a whole number, not '" + text + "'");
         }
         *value = parsed;
         return OkStatus();
       }});
}

void FlagParser::Double(const std::string& name, double* value, const std::string& help) {
  Add({name, "X", ShowDouble(*value), help, [name, value](const std::string& text) {
         char* end = nullptr;
         const double parsed = std::strtod(text.c_str(), &end);
         if (text.empty() || *end != '\0') {
           return InvalidArgument("--" + name + " takes a number, not '" + text + "'");
         }
         *value = parsed;
         return OkStatus();
       }});
}

void FlagParser::Bool(const std::string& name, bool* value, const std::string& help) {
  Add({name, "", "", help, [value](const std::string&) {
         *value = true;
         return OkStatus();
       }});
}

void FlagParser::Strings(const std::string& name, std::vector<std::string>* values,
                         const std::string& help) {
  Add({name, "TEXT", "", help + " (may be given many times)", [values](const std::string& text) {
         values->push_back(text);
         return OkStatus();
       }});
}

void FlagParser::Example(const std::string& line) { examples_.push_back(line); }

void FlagParser::Positional(size_t least, size_t most) {
  least_positional_ = least;
  most_positional_ = most;
}

StatusOr<const FlagParser::Flag*> FlagParser::Find(const std::string& name) const {
  std::vector<std::string> names = {"help"};
  for (const Flag& flag : flags_) {
    if (flag.name == name) return &flag;
    names.push_back(flag.name);
  }
  const std::string nearest = NearestName(name, names);
  return InvalidArgument("unknown flag --" + name +
                         (nearest.empty() ? "" : "; did you mean --" + nearest + "?"));
}

Status FlagParser::ParseInto(const std::vector<std::string>& args,
                             std::vector<std::string>* positional) const {
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string& arg = args[i];
    if (arg.compare(0, 2, "--") != 0) {
      positional->push_back(arg);
      continue;
    }
    const size_t equals = arg.find('=');
    const std::string name = arg.substr(2, equals == std::string::npos ? equals : equals - 2);
    WEFT_ASSIGN_OR_RETURN(const Flag* flag, Find(name));
    const bool takes_value = !flag->value_name.empty();
    if (!takes_value && equals != std::string::npos)
      return InvalidArgument("--" + name + " takes no value");
    std::string value;
    if (equals != std::string::npos) {
      value = arg.substr(equals + 1);
    } else if (takes_value) {
      if (i + 1 == args.size()) return InvalidArgument("--" + name + " wants a value");
      value = args[++i];
    }
    WEFT_RETURN_IF_ERROR(flag->set(value));
  }
  if (positional->size() < least_positional_)
    return InvalidArgument("an argument is missing: " + usage_);
  if (positional->size() > most_positional_) {
    return InvalidArgument("one argument too many: '" + (*positional)[most_positional_] + "'");
  }
  return OkStatus();
}

ParsedFlags FlagParser::Parse(const std::vector<std::string>& args) const {
  ParsedFlags parsed;
  if (std::any_of(args.begin(), args.end(),
                  [](const std::string& a) { return a == "--help" || a == "-h"; })) {
    std::fputs(Help().c_str(), stdout);
    parsed.exit_code = 0;
    return parsed;
  }
  const Status status = ParseInto(args, &parsed.positional);
  if (!status.ok()) {
    std::fprintf(stderr, "%s: %s\nTry `%s --help`.\n", command_.c_str(), status.message().c_str(),
                 command_.c_str());
    parsed.exit_code = kExitUsage;
  }
  return parsed;
}

std::string FlagParser::Help() const {
  std::string help =
      description_ + "\n\nUsage: " + command_ + (usage_.empty() ? "" : " " + usage_) + "\n";
  size_t width = 6;
  const auto left = [](const Flag& flag) {
    return "--" + flag.name + (flag.value_name.empty() ? "" : " " + flag.value_name);
  };
  for (const Flag& flag : flags_) width = std::max(width, left(flag).size());
  help += "\nFlags:\n";
  for (const Flag& flag : flags_) {
    const std::string name = left(flag);
    help += "  " + name + std::string(width + 2 - name.size(), ' ') + flag.help +
            (flag.shown_default.empty() ? "" : " [" + flag.shown_default + "]") + "\n";
  }
  help += "  --help" + std::string(width - 4, ' ') + "this text\n";
  if (!examples_.empty()) help += "\nExamples:\n";
  for (const std::string& example : examples_) help += "  " + example + "\n";
  return help;
}

int ReportError(const std::string& command, const Status& status) {
  std::fprintf(stderr, "%s: %s\n", command.c_str(), status.message().c_str());
  return status.code() == StatusCode::kInvalidArgument ? kExitUsage : 1;
}

}  // namespace weft
