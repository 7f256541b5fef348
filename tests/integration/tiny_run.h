// A whole training run of the tiny CLIP in a directory of its own: pictures, captions, recipe, the built programs.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/support/program.h"
#include "tests/support/temp_dir.h"

namespace weft::testing {

class TinyRun {
 public:
  // Makes 48 training pairs and 12 held-out ones, a vocabulary and recipe.textproto.
  TinyRun();

  std::string Path(const std::string& name) const { return dir_ / name; }
  // weft train recipe.textproto --run-dir NAME EXTRA...
  std::vector<std::string> TrainArgs(const std::string& run,
                                     const std::vector<std::string>& extra = {}) const;
  ProgramResult Train(const std::string& run, const std::vector<std::string>& extra = {}) const;
  ProgramResult Weft(const std::vector<std::string>& args) const;
  const std::string& directory() const { return dir_.path(); }

  // step -> loss_bits; of a step that was done twice the last record wins.
  std::map<int64_t, std::string> LossBits(const std::string& run) const;
  // Records of steps, repeated ones counted.
  int64_t NumStepRecords(const std::string& run) const;
  // Live workers of this directory's runs.
  std::vector<pid_t> Workers() const;

 private:
  TempDir dir_;
};

}  // namespace weft::testing
