// A run directory: who holds it, what recipe it belongs to, and where its coordinator listens.
//
//   lock              held by the live coordinator (flock)
//   recipe.textproto  the frozen recipe
//   coord/endpoint    host:port and the run's token; mode 0600
//   logs/             output of the workers
//
// Errors: AlreadyExists (another coordinator lives there; the message says which), InvalidArgument (another recipe; the
// message names the fields that differ), the file system's.
// Thread rule: one thread at a time.
#pragma once

#include <memory>
#include <string>

#include "cluster/base/file_system.h"
#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"
#include "cluster/rpc/endpoint.h"

namespace weft {

class RunDirectory {
 public:
  // Creates it if absent, locks it, and freezes the recipe or compares it with the frozen one. Values that the recipe's hash
  // leaves out (layout, run) may differ: the new ones count and are written.
  static StatusOr<std::unique_ptr<RunDirectory>> Open(FileSystem* fs, const std::string& path,
                                                      const Recipe& recipe);

  // Absolute.
  const std::string& path() const { return path_; }
  std::string log_dir() const { return JoinPath(path_, "logs"); }

  Status WriteEndpoint(const Endpoint& endpoint, const std::string& run_token);
  void RemoveEndpoint();

 private:
  RunDirectory(FileSystem* fs, std::string path, std::unique_ptr<FileLock> lock)
      : fs_(fs), path_(std::move(path)), lock_(std::move(lock)) {}
  Status FreezeOrCompare(const Recipe& recipe);

  FileSystem* const fs_;
  const std::string path_;
  const std::unique_ptr<FileLock> lock_;
};

struct RunEndpoint {
  Endpoint endpoint;
  std::string run_token;
};
// NotFound if no coordinator has ever listened there or the last one left.
StatusOr<RunEndpoint> ReadRunEndpoint(FileSystem* fs, const std::string& run_dir);

// 128 random bits in hex.
std::string NewRunToken();

}  // namespace weft
