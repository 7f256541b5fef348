#include "coordinator/run_directory.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <ctime>
#include <filesystem>
#include <random>

#include "cluster/base/text.h"
#include "cluster/config/freeze.h"
#include "cluster/config/recipe_hash.h"

namespace weft {
namespace {

std::string EndpointPath(const std::string& run_dir) { return JoinPath(run_dir, "coord/endpoint"); }

std::string OwnerText() {
  char host[HOST_NAME_MAX + 1] = "localhost";
  ::gethostname(host, sizeof host - 1);
  const std::time_t now = std::time(nullptr);
  char since[64] = {};
  std::strftime(since, sizeof since, "%Y-%m-%d %H:%M:%S UTC", std::gmtime(&now));
  return "pid " + std::to_string(::getpid()) + " on host " + host + " since " + since;
}

// As WriteFileDurably, but readable by its owner only from its first moment on.
Status WriteSecretDurably(FileSystem* fs, const std::string& path, const std::string& text) {
  const std::string temporary = path + ".tmp";
  ::unlink(temporary.c_str());
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return ErrnoStatus("create " + temporary, errno);
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const Status status =
      written && ::fsync(fd) == 0 ? OkStatus() : ErrnoStatus("write " + temporary, errno);
  ::close(fd);
  WEFT_RETURN_IF_ERROR(status);
  WEFT_RETURN_IF_ERROR(fs->Rename(temporary, path));
  return fs->SyncDir(ParentPath(path));
}

}  // namespace

StatusOr<std::unique_ptr<RunDirectory>> RunDirectory::Open(FileSystem* fs, const std::string& path,
                                                           const Recipe& recipe) {
  std::error_code error;
  const std::string absolute = std::filesystem::absolute(path, error).lexically_normal().string();
  if (error) return ErrnoStatus("run directory " + path, error.value());
  WEFT_RETURN_IF_ERROR(fs->MakeDirs(JoinPath(absolute, "coord")).WithContext("run directory"));
  auto lock = FileLock::TryAcquire(JoinPath(absolute, "lock"));
  if (lock.status().code() == StatusCode::kAlreadyExists) {
    return AlreadyExists("another coordinator is running in " + path + ": " +
                         lock.status().message() +
                         "; wait for its end or stop it (Ctrl-C, SIGTERM)");
  }
  if (!lock.ok()) return lock.status().WithContext("run directory");
  WEFT_RETURN_IF_ERROR((*lock)->SetOwner(OwnerText()).WithContext("run directory " + path));
  std::unique_ptr<RunDirectory> directory(new RunDirectory(fs, absolute, std::move(*lock)));
  WEFT_RETURN_IF_ERROR(directory->FreezeOrCompare(recipe));
  return directory;
}

Status RunDirectory::FreezeOrCompare(const Recipe& recipe) {
  const std::string file = JoinPath(path_, "recipe.textproto");
  if (!fs_->Exists(file)) return WriteFrozenRecipe(fs_, file, recipe);
  WEFT_ASSIGN_OR_RETURN(const Recipe frozen, ReadFrozenRecipe(fs_, file));
  if (RecipeHash(frozen) == RecipeHash(recipe)) {
    if (FrozenText(frozen) == FrozenText(recipe)) return OkStatus();
    return WriteFrozenRecipe(fs_, file, recipe);
  }
  return InvalidArgument(
      path_ + " belongs to a run of another recipe (there -> here):\n  " +
      Join(DiffRecipes(frozen, recipe), "\n  ") +
      "\nResume it with its own recipe, or train this one elsewhere with --run-dir");
}

Status RunDirectory::WriteEndpoint(const Endpoint& endpoint, const std::string& run_token) {
  return WriteSecretDurably(fs_, EndpointPath(path_),
                            endpoint.ToString() + "\n" + run_token + "\n");
}

void RunDirectory::RemoveEndpoint() { (void)fs_->Remove(EndpointPath(path_)); }

StatusOr<RunEndpoint> ReadRunEndpoint(FileSystem* fs, const std::string& run_dir) {
  const std::string path = EndpointPath(run_dir);
  WEFT_ASSIGN_OR_RETURN(const std::string text, fs->ReadFile(path));
  const std::vector<std::string> lines = Split(text, '\n');
  if (lines.size() < 2) return Corruption(path + ": two lines expected (host:port, token)");
  WEFT_ASSIGN_OR_RETURN(const Endpoint endpoint, Endpoint::Parse(lines[0]));
  return RunEndpoint{endpoint, lines[1]};
}

std::string NewRunToken() {
  std::random_device random;
  std::string hex;
  for (int i = 0; i < 32; ++i) hex += "0123456789abcdef"[random() % 16];
  return hex;
}

}  // namespace weft
