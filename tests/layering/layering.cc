#include "tests/layering/layering.h"

#include <cctype>
#include <functional>
#include <optional>
#include <regex>
#include <sstream>

namespace weft::layering {
namespace {

constexpr char kRulesFile[] = "tests/layering/allowed.txt";

std::vector<std::string> Words(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

bool StartsWith(const std::string& text, const std::string& prefix) {
  return text.rfind(prefix, 0) == 0;
}

// The longest folder of the table that begins `path`, "" if none does.
std::string FolderOf(const Rules& rules, const std::string& path) {
  std::string best;
  for (const auto& [folder, unused] : rules.may_include) {
    if (StartsWith(path, folder + "/") && folder.size() > best.size()) best = folder;
  }
  return best;
}

// Folders that a word of the table stands for: "cluster/*", "*", or one folder.
std::vector<std::string> Expand(const Rules& rules, const std::string& word) {
  if (word.empty() || word.back() != '*') return {word};
  const std::string prefix = word.substr(0, word.size() - 1);
  std::vector<std::string> folders;
  for (const auto& [folder, unused] : rules.may_include) {
    if (StartsWith(folder, prefix)) folders.push_back(folder);
  }
  return folders;
}

// Calls `visit(line number, line)` for every line of the file, without its // comment if asked.
void ForEachLine(const SourceFile& file, bool without_comments,
                 const std::function<void(int, const std::string&)>& visit) {
  std::istringstream in(file.text);
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    const size_t comment = without_comments ? line.find("//") : std::string::npos;
    visit(++number, line.substr(0, comment));
  }
}

// The file named by a line `#include "..."` or `#include <...>`, and which of the two it is.
struct Include {
  std::string path;
  bool quoted = false;
};

std::optional<Include> ParseInclude(const std::string& line) {
  static const std::regex kPattern(R"re(^\s*#\s*include\s*(["<])([^">]+)[">].*)re");
  std::smatch match;
  if (line.find("include") == std::string::npos || !std::regex_match(line, match, kPattern))
    return {};
  return Include{.path = match[2], .quoted = match[1] == "\""};
}

std::string At(const SourceFile& file, int line) {
  return file.path + ":" + std::to_string(line) + ": ";
}

// Where `word` stands with no letter, digit or _ before it.
bool HasWord(const std::string& line, const std::string& word) {
  for (size_t at = line.find(word); at != std::string::npos; at = line.find(word, at + 1)) {
    const char before = at == 0 ? ' ' : line[at - 1];
    if (!std::isalnum(static_cast<unsigned char>(before)) && before != '_') return true;
  }
  return false;
}

}  // namespace

Rules ParseRules(const std::string& text, std::vector<std::string>* errors) {
  const std::string banned_in = "banned in ";
  Rules rules;
  std::vector<std::pair<std::string, std::vector<std::string>>>
      includes;  // to expand when all folders are known
  ForEachLine({kRulesFile, text}, false, [&](int number, const std::string& line) {
    if (line.empty() || line[0] == '#') return;
    size_t colon = line.find(": ");
    if (colon == std::string::npos && line.back() == ':') colon = line.size() - 1;
    if (colon == std::string::npos) {
      errors->push_back(At({kRulesFile, ""}, number) + "expected `folder: folders`");
      return;
    }
    const std::string key = line.substr(0, colon);
    const std::vector<std::string> words = Words(line.substr(colon + 1));
    if (StartsWith(key, banned_in)) {
      for (const std::string& folder : Words(key.substr(banned_in.size()))) {
        std::vector<std::string>& banned = rules.banned_words[folder];
        banned.insert(banned.end(), words.begin(), words.end());
      }
    } else if (key == "torch") {
      rules.torch_folders.insert(words.begin(), words.end());
    } else {
      rules.may_include[key];
      includes.emplace_back(key, words);
    }
  });
  for (const auto& [folder, words] : includes) {
    std::set<std::string>& allowed = rules.may_include[folder];
    for (const std::string& word : words) {
      const bool without = word[0] == '-';
      for (const std::string& other : Expand(rules, without ? word.substr(1) : word)) {
        if (rules.may_include.count(other) == 0) {
          errors->push_back(std::string(kRulesFile) + ": " + folder + " names an unknown folder " +
                            other);
        } else if (without) {
          allowed.erase(other);
        } else {
          allowed.insert(other);
        }
      }
    }
  }
  return rules;
}

std::vector<std::string> CheckIncludes(const Rules& rules, const SourceFile& file) {
  std::vector<std::string> violations;
  const std::string folder = FolderOf(rules, file.path);
  if (folder.empty()) return {file.path + ":1: its folder is not in " + kRulesFile};
  const std::set<std::string>& allowed = rules.may_include.at(folder);
  ForEachLine(file, false, [&](int number, const std::string& line) {
    const std::optional<Include> include = ParseInclude(line);
    if (!include) return;
    const std::string other = FolderOf(rules, include->path);
    if (other.empty()) {
      if (!include->quoted) return;
      violations.push_back(At(file, number) + "\"" + include->path +
                           "\" is in no folder of ours: write our headers with their path from the "
                           "root, others in <>");
    } else if (other != folder && allowed.count(other) == 0) {
      violations.push_back(At(file, number) + folder + " may not include " + other + " (" +
                           include->path + "); the table is in " + kRulesFile);
    }
  });
  return violations;
}

std::vector<std::string> CheckTorch(const Rules& rules, const SourceFile& file) {
  std::vector<std::string> violations;
  const std::string folder = FolderOf(rules, file.path);
  if (rules.torch_folders.count(folder) != 0) return violations;
  ForEachLine(file, false, [&](int number, const std::string& line) {
    const std::optional<Include> include = ParseInclude(line);
    if (!include) return;
    for (const char* prefix : {"torch/", "ATen/", "c10/"}) {
      if (StartsWith(include->path, prefix)) {
        violations.push_back(At(file, number) + folder + " is free of LibTorch and includes " +
                             include->path + "; the `torch:` line is in " + kRulesFile);
      }
    }
  });
  return violations;
}

std::vector<std::string> CheckBannedWords(const Rules& rules, const SourceFile& file) {
  std::vector<std::string> violations;
  for (const auto& [folder, words] : rules.banned_words) {
    if (!StartsWith(file.path, folder + "/")) continue;
    for (const std::string& word : words) {
      ForEachLine(file, true, [&, &word = word](int number, const std::string& line) {
        if (!HasWord(line, word)) return;
        violations.push_back(
            At(file, number) + "`" + word +
            "` draws from LibTorch's default generator; draw with a key (cluster/base/philox.h)");
      });
    }
  }
  return violations;
}

std::vector<std::string> CheckTestsAreBuilt(const std::vector<SourceFile>& files) {
  std::set<std::string> built;  // paths from the root
  for (const SourceFile& file : files) {
    const size_t name = file.path.rfind("CMakeLists.txt");
    if (name == std::string::npos) continue;
    const std::string folder = file.path.substr(0, name);
    ForEachLine(file, false, [&](int, const std::string& line) {
      std::string code = line.substr(0, line.find('#'));
      for (char& c : code) {
        if (c == '(' || c == ')') c = ' ';
      }
      for (const std::string& word : Words(code)) built.insert(folder + word);
    });
  }
  std::vector<std::string> violations;
  for (const SourceFile& file : files) {
    const std::string ending = "_test.cc";
    const bool is_test =
        file.path.size() > ending.size() &&
        file.path.compare(file.path.size() - ending.size(), ending.size(), ending) == 0;
    if (is_test && built.count(file.path) == 0) {
      violations.push_back(
          file.path + ":1: no CMakeLists.txt builds it, so it never runs: add it to a weft_test()");
    }
  }
  return violations;
}

}  // namespace weft::layering
