#include "coordinator/run_recorder.h"

#include <bit>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cluster/base/logging.h"

namespace weft {
namespace {

using Json = nlohmann::ordered_json;

double WallSeconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Bytes that are no UTF-8 must not throw.
std::string Dump(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

Json ToJson(const google::protobuf::RepeatedPtrField<control::Metric>& metrics) {
  Json json = Json::object();
  for (const control::Metric& metric : metrics) json[metric.name()] = metric.value();
  return json;
}

Json ToJson(const EventField& field) {
  switch (field.kind) {
    case EventField::Kind::kText:
      return field.text;
    case EventField::Kind::kInteger:
      return field.integer;
    case EventField::Kind::kNumber:
      return field.number;
  }
  return nullptr;
}

Json Keyed(Token token) {
  return {{"time", WallSeconds()}, {"epoch", token.epoch}, {"generation", token.generation}};
}

}  // namespace

std::string LossBits(double loss, bool fp64) {
  char text[20];
  if (fp64) {
    std::snprintf(text, sizeof text, "%016llx",
                  static_cast<unsigned long long>(std::bit_cast<uint64_t>(loss)));
  } else {
    std::snprintf(text, sizeof text, "%08x", std::bit_cast<uint32_t>(static_cast<float>(loss)));
  }
  return text;
}

StatusOr<std::unique_ptr<RunRecorder>> RunRecorder::Open(FileSystem* fs,
                                                         RunRecorderOptions options) {
  std::unique_ptr<RunRecorder> recorder(new RunRecorder(fs, std::move(options)));
  const std::string& dir = recorder->options_.run_dir;
  WEFT_ASSIGN_OR_RETURN(recorder->steps_, recorder->OpenLines("steps.jsonl"));
  WEFT_ASSIGN_OR_RETURN(recorder->events_, recorder->OpenLines("events.jsonl"));
  auto tensorboard = TensorboardWriter::Create(fs, JoinPath(dir, "tb"), WallSeconds());
  if (tensorboard.ok()) {
    recorder->tensorboard_ = std::move(*tensorboard);
  } else {
    recorder->Note(tensorboard.status());
  }
  return recorder;
}

StatusOr<std::unique_ptr<WritableFile>> RunRecorder::OpenLines(const std::string& name) {
  const std::string path = JoinPath(options_.run_dir, name);
  bool torn = false;
  if (const auto size = fs_->FileSize(path); size.ok() && *size > 0) {
    char last = '\n';
    WEFT_RETURN_IF_ERROR(fs_->ReadRange(path, *size - 1, 1, &last));
    torn = last != '\n';
  }
  WEFT_ASSIGN_OR_RETURN(auto file, fs_->OpenAppend(path));
  if (torn) Note(file->Append("\n"));
  return file;
}

void RunRecorder::OnGenerationStart(Token token, int64_t from_step) {
  OnEvent(token, "generation_started",
          "generation " + std::to_string(token.generation) + " starts from step " +
              std::to_string(from_step),
          {{"from_step", from_step}});
  if (tensorboard_) Note(tensorboard_->WriteSessionStart(WallSeconds(), from_step + 1));
}

void RunRecorder::OnStep(Token token, const control::StepRecord& record) {
  Json json = {{"epoch", token.epoch},
               {"generation", token.generation},
               {"step", record.step()},
               {"loss", record.loss()},
               {"loss_bits", LossBits(record.loss(), options_.fp64)},
               {"metrics", ToJson(record.metrics())},
               {"samples", record.samples()},
               {"seconds", record.seconds()},
               {"data_wait_s", record.data_wait_s()},
               {"peer_wait_s", record.peer_wait_s()},
               {"save_wait_s", record.save_wait_s()},
               {"time", WallSeconds()}};
  AppendLine(steps_.get(), &steps_torn_, Dump(json));
  if (!tensorboard_) return;
  Scalars scalars = {{"train/loss", record.loss()}};
  for (const control::Metric& metric : record.metrics()) {
    scalars.emplace_back("train/" + metric.name(), metric.value());
  }
  if (record.seconds() > 0) {
    scalars.emplace_back("time/images_per_second",
                         static_cast<double>(record.samples()) / record.seconds());
    scalars.emplace_back("time/data_wait_s", record.data_wait_s());
    scalars.emplace_back("time/peer_wait_s", record.peer_wait_s());
    scalars.emplace_back("time/save_wait_s", record.save_wait_s());
  }
  Note(tensorboard_->WriteScalars(WallSeconds(), record.step(), scalars));
}

void RunRecorder::OnEval(Token token, const control::EvalRecord& record) {
  Json json = Keyed(token);
  json["step"] = record.step();
  json["metrics"] = ToJson(record.metrics());
  const Json details = Json::parse(record.details_json(), nullptr, /*allow_exceptions=*/false);
  json["details"] = details.is_discarded() ? Json() : details;
  Note(WriteFileDurably(fs_, JoinPath(options_.run_dir, "eval.json"), Dump(json, 1) + "\n"));
  OnEvent(token, "evaluated", "evaluated at step " + std::to_string(record.step()),
          {{"step", record.step()}});
  if (!tensorboard_) return;
  Scalars scalars;
  for (const control::Metric& metric : record.metrics()) {
    scalars.emplace_back("eval/" + metric.name(), metric.value());
  }
  Note(tensorboard_->WriteScalars(WallSeconds(), record.step(), scalars));
}

void RunRecorder::OnEvent(Token token, const std::string& kind, const std::string& text,
                          const std::vector<EventField>& fields) {
  Json json = Keyed(token);
  json["kind"] = kind;
  json["text"] = text;
  for (const EventField& field : fields) json[field.name] = ToJson(field);
  AppendLine(events_.get(), &events_torn_, Dump(json));
}

void RunRecorder::AppendLine(WritableFile* file, bool* torn, const std::string& line) {
  const Status status = file->Append((*torn ? "\n" : "") + line + "\n");
  *torn = !status.ok();
  Note(status);
}

void RunRecorder::Note(const Status& status) {
  if (status.ok()) return;
  if (num_lost_++ == 0) {
    WEFT_LOG(WARNING) << "records of this run are lost, training goes on: " << status;
  }
}

}  // namespace weft
