#include "dataloader/pack/package_source.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <thread>
#include <vector>

#include "cluster/base/clock.h"
#include "cluster/base/file_system.h"
#include "cluster/base/logging.h"
#include "cluster/base/text.h"

namespace weft {
namespace {

constexpr auto kDownloadLimit = std::chrono::minutes(15);
constexpr auto kPoll = std::chrono::milliseconds(50);

bool IsFolder(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored);
}

// The child of RunIn: does not return.
[[noreturn]] void ExecIn(const std::string& directory, const std::vector<char*>& arguments,
                         const std::string& log) {
  const int fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  const int null = ::open("/dev/null", O_RDONLY);
  if (fd >= 0 && null >= 0 && ::chdir(directory.c_str()) == 0) {
    ::dup2(null, STDIN_FILENO);
    ::dup2(fd, STDOUT_FILENO);
    ::dup2(fd, STDERR_FILENO);
    ::execvp(arguments[0], arguments.data());
  }
  ::_exit(127);
}

// Runs a program in `directory`, its output going to `log`; kills it at the deadline.
Status RunIn(const std::string& directory, const std::vector<std::string>& command,
             const std::string& log) {
  std::vector<char*> arguments;
  for (const std::string& argument : command)
    arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const pid_t child = ::fork();
  if (child < 0) return ErrnoStatus("start " + command[0], errno);
  if (child == 0) ExecIn(directory, arguments, log);
  const TimePoint deadline = Clock::now() + kDownloadLimit;
  int wait_status = 0;
  while (::waitpid(child, &wait_status, WNOHANG) == 0) {
    if (Clock::now() > deadline) {
      ::kill(child, SIGKILL);
      ::waitpid(child, &wait_status, 0);
      return DeadlineExceeded(Join(command, " ") + " took more than 15 minutes and was stopped");
    }
    std::this_thread::sleep_for(kPoll);
  }
  if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0) return OkStatus();
  if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 127)
    return Unavailable("there is no program " + command[0]);
  std::string said;
  if (StatusOr<std::string> text = PosixFileSystem()->ReadFile(log); text.ok()) {
    for (const std::string& line : Split(*text, '\n')) said = line.empty() ? said : line;
  }
  return Unavailable("`" + Join(command, " ") + "` failed: " + said);
}

Status Download(const DataPackage& package, const std::string& cache, const std::string& unpacked) {
  FileSystem* fs = PosixFileSystem();
  const std::string work = JoinPath(cache, "download.part");
  if (fs->Exists(work)) WEFT_RETURN_IF_ERROR(fs->RemoveTree(work));
  WEFT_RETURN_IF_ERROR(fs->MakeDirs(work));
  const std::string log = std::filesystem::absolute(JoinPath(cache, "download.log")).string();
  WEFT_LOG(INFO) << "downloading the Debian package " << package.name << " (" << package.megabytes
                 << " MB) into " << cache;
  WEFT_RETURN_IF_ERROR(RunIn(work, {"apt-get", "download", package.name}, log));
  WEFT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs->ListDir(work));
  if (names.size() != 1)
    return Unavailable("apt-get left " + std::to_string(names.size()) + " files in " + work);
  WEFT_RETURN_IF_ERROR(RunIn(work, {"dpkg", "-x", names[0], "unpacked"}, log));
  WEFT_RETURN_IF_ERROR(fs->Rename(JoinPath(work, "unpacked"), unpacked));
  return fs->RemoveTree(work);
}

}  // namespace

StatusOr<std::string> FindPackage(const DataPackage& package, const std::string& source,
                                  const std::string& cache) {
  if (!source.empty()) {
    if (IsFolder(JoinPath(source, package.folder))) return JoinPath(source, package.folder);
    if (IsFolder(source)) return source;
    return NotFound("--source " + source + " is not a folder");
  }
  if (IsFolder("/" + package.folder)) return "/" + package.folder;
  const std::string unpacked = JoinPath(cache, package.name);
  const std::string found = JoinPath(unpacked, package.folder);
  if (IsFolder(found)) return found;
  const Status status = Download(package, cache, unpacked);
  if (status.ok() && IsFolder(found)) return found;
  return Unavailable(
      "cannot get the Debian package " + package.name + " (" + status.message() +
      "). Run `apt-get update` first if apt does not know it; or install it; or unpack it "
      "elsewhere with `dpkg -x` and name that folder with --source");
}

}  // namespace weft
