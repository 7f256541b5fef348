#include "cluster/launch/worker_libraries.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <vector>

#include "cluster/base/clock.h"
#include "cluster/base/file_system.h"
#include "cluster/base/text.h"

extern char** environ;

namespace weft {
namespace {

namespace fs = std::filesystem;

constexpr char kWanted[] = "2.11";
constexpr auto kPythonTimeout = std::chrono::seconds(20);

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string ReadText(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// All that comes out of `fd` until its end or the deadline.
std::string ReadUntil(int fd, TimePoint deadline) {
  std::string text;
  char buffer[4096];
  for (;;) {
    const double left = ToSeconds(deadline - Clock::now());
    pollfd waiting{.fd = fd, .events = POLLIN, .revents = 0};
    if (left <= 0 || ::poll(&waiting, 1, static_cast<int>(left * 1000) + 1) <= 0) return text;
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n <= 0) return text;
    text.append(buffer, static_cast<size_t>(n));
  }
}

// The torch folder of the python3 in PATH, without importing it (that takes seconds); empty: none.
std::string AskPython() {
  const char* script =
      "import importlib.util as u; s = u.find_spec('torch'); "
      "print(list(s.submodule_search_locations)[0] if s else '')";
  std::string words[] = {"python3", "-c", script};
  char* argv[] = {words[0].data(), words[1].data(), words[2].data(), nullptr};
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return "";
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t pid = -1;
  const int failed = ::posix_spawnp(&pid, argv[0], &actions, nullptr, argv, environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  std::string said;
  if (failed == 0) {
    said = ReadUntil(ends[0], Clock::now() + kPythonTimeout);
    ::kill(pid, SIGKILL);  // nothing, if it has ended
    ::waitpid(pid, nullptr, 0);
  }
  ::close(ends[0]);
  return said.substr(0, said.find('\n'));
}

struct Found {
  std::string root;
  std::string by;  // how, for errors
};

StatusOr<Found> FindLibTorch() {
  Found found{Environment("LIBTORCH_ROOT"), "LIBTORCH_ROOT=" + Environment("LIBTORCH_ROOT")};
  if (found.root.empty()) {
    found.root = AskPython();
    found.by = "the torch of python3, " + found.root + ",";
  }
  if (found.root.empty()) {
    return InvalidArgument(
        "no LibTorch was found: set LIBTORCH_ROOT to the folder of a LibTorch 2.11 (with include/ "
        "and lib/, such as the "
        "torch folder of a Python environment), or put a python3 with torch 2.11 first in PATH");
  }
  const std::string version = LibTorchVersion(found.root);
  if (version.empty())
    return InvalidArgument(found.by +
                           " holds no LibTorch: there is no lib/libtorch_cpu.so with its include/");
  if (version.compare(0, 5, std::string(kWanted) + ".") != 0)
    return InvalidArgument(found.by + " holds LibTorch " + version + "; this bundle needs " +
                           kWanted);
  return found;
}

void AddFolders(const std::string& parent, const std::vector<std::string>& below,
                std::vector<std::string>* folders) {
  std::error_code ignored;
  for (const std::string& name : below) {
    const std::string folder = parent + "/" + name;
    if (fs::is_directory(folder, ignored)) folders->push_back(folder);
  }
}

std::vector<std::string> Children(const std::string& parent, const std::string& prefix) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(parent, ignored)) {
    if (entry.path().filename().string().compare(0, prefix.size(), prefix) == 0)
      names.push_back(entry.path());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

std::string LibTorchVersion(const std::string& root) {
  std::error_code ignored;
  if (!fs::exists(root + "/lib/libtorch_cpu.so", ignored)) return "";
  const std::string header = ReadText(root + "/include/torch/headeronly/version.h");
  std::string version;
  for (const char* part : {"MAJOR", "MINOR", "PATCH"}) {
    std::smatch match;
    const std::regex line(std::string("define TORCH_VERSION_") + part + " +([0-9]+)");
    if (!std::regex_search(header, match, line)) return "";
    version += (version.empty() ? "" : ".") + match[1].str();
  }
  return version;
}

StatusOr<std::string> WorkerLibraryPath(const std::string& worker_program) {
  std::error_code ignored;
  if (!fs::exists(JoinPath(ParentPath(ParentPath(worker_program)), "BUNDLE"), ignored))
    return std::string();
  WEFT_ASSIGN_OR_RETURN(const Found found, FindLibTorch());
  // The CUDA libraries that came with this LibTorch go before those of a toolkit.
  std::vector<std::string> folders = {found.root + "/lib"};
  for (const std::string& package : Children(found.root + "/../nvidia", ""))
    AddFolders(package, {"lib"}, &folders);
  const std::string given = Environment("LD_LIBRARY_PATH");
  if (!given.empty()) folders.push_back(given);
  std::vector<std::string> toolkits = Children("/usr/local", "cuda");
  const std::string home = Environment("CUDA_HOME");
  if (!home.empty()) toolkits.insert(toolkits.begin(), home);
  for (const std::string& toolkit : toolkits)
    AddFolders(toolkit, {"lib64", "lib", "extras/CUPTI/lib64"}, &folders);
  return Join(folders, ":");
}

}  // namespace weft
