// TensorBoard event files: TFRecord framing (length, masked CRC32C) around tensorflow.Event messages, of which only the few
// fields that scalars need are encoded. One file a start of the coordinator; a session-start event at each generation lets
// TensorBoard drop the steps that are run again.
//
// Errors: the file system's; the record is lost, the next may succeed.
// Thread rule: one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cluster/base/file_system.h"
#include "cluster/base/status.h"

namespace weft {

using Scalars = std::vector<std::pair<std::string, double>>;

// One TFRecord.
std::string TfRecord(const std::string& payload);
// Serialised tensorflow.Event messages.
std::string FileVersionEvent(double wall_time);
std::string SessionStartEvent(double wall_time, int64_t step);
std::string ScalarsEvent(double wall_time, int64_t step, const Scalars& scalars);

class TensorboardWriter {
 public:
  // Creates <dir>/events.out.tfevents.<seconds>.<host>.<pid>.
  static StatusOr<std::unique_ptr<TensorboardWriter>> Create(FileSystem* fs, const std::string& dir,
                                                             double wall_time);
  Status WriteSessionStart(double wall_time, int64_t step);
  Status WriteScalars(double wall_time, int64_t step, const Scalars& scalars);

 private:
  explicit TensorboardWriter(std::unique_ptr<WritableFile> file) : file_(std::move(file)) {}
  std::unique_ptr<WritableFile> file_;
};

}  // namespace weft
