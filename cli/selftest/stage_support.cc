#include "cli/selftest/stage_support.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "cli/selftest/child_program.h"
#include "cluster/base/file_system.h"
#include "cluster/base/text.h"
#include "cluster/config/recipe_loader.h"
#include "cluster/launch/worker_libraries.h"

namespace weft {
namespace {

constexpr int kLinesOfAFailure = 3;

std::string LogPath(const SelftestOptions& options, const std::string& name) {
  return JoinPath(options.work_dir, name + ".log");
}

// Its last lines, and where the rest is.
std::string ReadOn(const std::string& log_path) {
  const StatusOr<std::string> text = PosixFileSystem()->ReadFile(log_path);
  if (!text.ok()) return log_path;
  std::vector<std::string> lines = Split(*text, '\n');
  std::erase_if(lines, [](const std::string& line) { return line.empty(); });
  std::string last;
  const size_t first = lines.size() - std::min<size_t>(lines.size(), kLinesOfAFailure);
  for (size_t i = first; i < lines.size(); ++i) last += lines[i] + "; ";
  return last + "see " + log_path;
}

}  // namespace

std::string FormatNumber(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

Status RunSelftestProgram(const SelftestOptions& options, const std::string& name,
                          const std::string& program, std::vector<std::string> args) {
  ChildOptions child;
  child.argv = std::move(args);
  child.argv.insert(child.argv.begin(), JoinPath(options.bin_dir, program));
  child.directory = options.work_dir;
  child.log_path = LogPath(options, name);
  // weft itself finds its worker's LibTorch; programs with LibTorch are given it.
  if (program != "weft") {
    WEFT_ASSIGN_OR_RETURN(child.library_path, WorkerLibraryPath(child.argv[0]));
  }
  WEFT_ASSIGN_OR_RETURN(const int exit_code, RunChildProgram(child));
  if (exit_code == 0) return OkStatus();
  return Internal("exit " + std::to_string(exit_code) + ": " + ReadOn(child.log_path));
}

StatusOr<nlohmann::json> ReadSelftestJson(const SelftestOptions& options, const std::string& name) {
  const std::string path = JoinPath(options.work_dir, name);
  WEFT_ASSIGN_OR_RETURN(const std::string text, PosixFileSystem()->ReadFile(path));
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    return Corruption(path + ": " + error.what());
  }
}

StatusOr<std::string> WriteSelftestRecipe(const SelftestOptions& options, const std::string& name,
                                          const std::vector<std::string>& overrides) {
  WEFT_ASSIGN_OR_RETURN(const LoadedRecipe loaded,
                        LoadRecipe({.path = JoinPath(options.recipe_dir, name + ".textproto"),
                                    .overrides = overrides}));
  std::string file = name + "-" + loaded.recipe.name() + ".recipe";
  std::replace(file.begin(), file.end(), '/', '-');
  const std::string path = JoinPath(options.work_dir, file);
  WEFT_RETURN_IF_ERROR(
      WriteFileDurably(PosixFileSystem(), path, loaded.recipe.SerializeAsString()));
  return path;
}

SelftestRow FailedRow(const std::string& stage, const std::string& name, const Status& status) {
  return {stage, name, SelftestOutcome::kFailed, status.message()};
}

std::string SelftestDevice(const SelftestOptions& options) {
  return options.gpus > 0 ? "0" : "cpu";
}

}  // namespace weft
