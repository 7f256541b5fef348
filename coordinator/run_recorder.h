// What a run leaves to be read, beside its checkpoints:
//   steps.jsonl   an object a step, keyed (epoch, generation, step); for one step the last line wins
//   events.jsonl  what happened: starts, losses, recoveries, commits, the end; each with its wall time
//   eval.json     metrics and details of the last evaluation
//   tb/           TensorBoard event files
//
// Errors: only Open returns any. A record that cannot be written (full disk) is counted and warned of once; recording
// never ends training.
// Thread rule: one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cluster/base/file_system.h"
#include "cluster/base/status.h"
#include "cluster/rpc/control.pb.h"
#include "coordinator/tensorboard_writer.h"
#include "coordinator/token.h"

namespace weft {

// One value of an event.
struct EventField {
  std::string name;
  enum class Kind { kText, kInteger, kNumber } kind = Kind::kText;
  std::string text;
  int64_t integer = 0;
  double number = 0;

  EventField(std::string n, std::string v) : name(std::move(n)), text(std::move(v)) {}
  EventField(std::string n, const char* v) : name(std::move(n)), text(v) {}
  EventField(std::string n, double v) : name(std::move(n)), kind(Kind::kNumber), number(v) {}
  EventField(std::string n, int64_t v) : name(std::move(n)), kind(Kind::kInteger), integer(v) {}
  EventField(std::string n, int v) : EventField(std::move(n), static_cast<int64_t>(v)) {}
};

struct RunRecorderOptions {
  std::string run_dir;
  // loss_bits are those of a double, not of a float.
  bool fp64 = false;
};

class RunRecorder {
 public:
  static StatusOr<std::unique_ptr<RunRecorder>> Open(FileSystem* fs, RunRecorderOptions options);

  void OnGenerationStart(Token token, int64_t from_step);
  void OnStep(Token token, const control::StepRecord& record);
  void OnEval(Token token, const control::EvalRecord& record);
  // `kind` for programs, `text` for people, more fields for both.
  void OnEvent(Token token, const std::string& kind, const std::string& text,
               const std::vector<EventField>& fields = {});

  // Records that could not be written.
  int64_t num_lost() const { return num_lost_; }

 private:
  RunRecorder(FileSystem* fs, RunRecorderOptions options) : fs_(fs), options_(std::move(options)) {}
  StatusOr<std::unique_ptr<WritableFile>> OpenLines(const std::string& name);
  // A line that was cut off by a full disk must not swallow the next one.
  void AppendLine(WritableFile* file, bool* torn, const std::string& line);
  void Note(const Status& status);

  FileSystem* const fs_;
  const RunRecorderOptions options_;
  std::unique_ptr<WritableFile> steps_;
  std::unique_ptr<WritableFile> events_;
  std::unique_ptr<TensorboardWriter> tensorboard_;
  bool steps_torn_ = false;
  bool events_torn_ = false;
  int64_t num_lost_ = 0;
};

// "3f800000" for 1.0f; 16 digits for a double.
std::string LossBits(double loss, bool fp64);

}  // namespace weft
