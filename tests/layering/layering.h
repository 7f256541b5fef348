// The checks behind layering_test: which folder may include which, who may see LibTorch, which
// words are banned, and that every test file is built. They work on texts, so that the test can
// also show that each of them can fail.
//
// Thread rule: values; no sharing.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

namespace weft::layering {

struct SourceFile {
  std::string path;  // from the root of the repository, with '/'
  std::string text;
};

// What allowed.txt says.
struct Rules {
  std::map<std::string, std::set<std::string>> may_include;  // folder -> folders
  std::set<std::string> torch_folders;
  std::map<std::string, std::vector<std::string>> banned_words;  // folder -> words
};

// Adds to `errors` one line for each line of `text` that it does not understand.
Rules ParseRules(const std::string& text, std::vector<std::string>* errors);

// Each gives one line a violation, "file:line: what is wrong and the rule", and nothing when all is
// well.
std::vector<std::string> CheckIncludes(const Rules& rules, const SourceFile& file);
std::vector<std::string> CheckTorch(const Rules& rules, const SourceFile& file);
std::vector<std::string> CheckBannedWords(const Rules& rules, const SourceFile& file);
// `files` holds both the *_test.cc and the CMakeLists.txt files.
std::vector<std::string> CheckTestsAreBuilt(const std::vector<SourceFile>& files);

}  // namespace weft::layering
