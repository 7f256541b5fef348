// Writes a shard: a USTAR archive that depends only on the samples given (mode 0444, uid, gid and mtime 0, members of a
// sample in sorted order of their extensions). The shard appears under its name only when it is whole: it is written as
// NAME.part, synced, renamed, and the directory is synced.
//
// Errors: InvalidArgument (a name that does not fit), the file system's own. Thread rule: one thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "cluster/base/file_system.h"
#include "cluster/base/status.h"

namespace weft {

class TarWriter {
 public:
  // Replaces a NAME.part that an earlier, killed writer left.
  static StatusOr<std::unique_ptr<TarWriter>> Create(FileSystem* fs, const std::string& path);

  // Removes an unfinished NAME.part.
  ~TarWriter();
  TarWriter(const TarWriter&) = delete;
  TarWriter& operator=(const TarWriter&) = delete;

  // One sample: members KEY.EXTENSION. REQUIRES: consecutive keys differ, else readers take them as one sample.
  Status AddSample(std::string_view key,
                   const std::map<std::string, std::string>& member_by_extension);
  // Without it nothing appears under the shard's name.
  Status Finish();

 private:
  TarWriter(FileSystem* fs, std::string path, std::unique_ptr<WritableFile> file)
      : fs_(fs), path_(std::move(path)), file_(std::move(file)) {}
  Status AddMember(const std::string& name, std::string_view bytes);
  Status Flush();

  FileSystem* fs_;
  std::string path_;
  std::unique_ptr<WritableFile> file_;
  std::string buffer_;
  uint64_t written_ = 0;
  bool finished_ = false;
};

}  // namespace weft
