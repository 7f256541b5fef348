#include "coordinator/tensorboard_writer.h"

#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstring>

#include "cluster/base/hash.h"

namespace weft {
namespace {

// ---- protobuf's wire format, as far as it is needed

void PutVarint(uint64_t value, std::string* out) {
  while (value >= 0x80) {
    out->push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out->push_back(static_cast<char>(value));
}

template <typename T>
void PutFixed(T value, std::string* out) {
  char bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);  // x86-64 and arm64 are little-endian, as the format is
  out->append(bytes, sizeof value);
}

enum WireType { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

void PutTag(int field, WireType type, std::string* out) {
  PutVarint(static_cast<uint64_t>(field) << 3 | type, out);
}

void PutBytes(int field, const std::string& bytes, std::string* out) {
  PutTag(field, kBytes, out);
  PutVarint(bytes.size(), out);
  out->append(bytes);
}

// Event: double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; SessionLog session_log = 7.
std::string EventHead(double wall_time, int64_t step) {
  std::string event;
  PutTag(1, kFixed64, &event);
  PutFixed(wall_time, &event);
  if (step != 0) {
    PutTag(2, kVarint, &event);
    PutVarint(static_cast<uint64_t>(step), &event);
  }
  return event;
}

uint32_t MaskedCrc(const std::string& bytes) {
  const uint32_t crc = Crc32c(bytes.data(), bytes.size());
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

}  // namespace

std::string TfRecord(const std::string& payload) {
  std::string length;
  PutFixed(static_cast<uint64_t>(payload.size()), &length);
  std::string record = length;
  PutFixed(MaskedCrc(length), &record);
  record += payload;
  PutFixed(MaskedCrc(payload), &record);
  return record;
}

std::string FileVersionEvent(double wall_time) {
  std::string event = EventHead(wall_time, 0);
  PutBytes(3, "brain.Event:2", &event);
  return event;
}

std::string SessionStartEvent(double wall_time, int64_t step) {
  std::string session;  // SessionLog: SessionStatus status = 1 (START = 1)
  PutTag(1, kVarint, &session);
  PutVarint(1, &session);
  std::string event = EventHead(wall_time, step);
  PutBytes(7, session, &event);
  return event;
}

std::string ScalarsEvent(double wall_time, int64_t step, const Scalars& scalars) {
  std::string
      summary;  // Summary: repeated Value value = 1 {string tag = 1; float simple_value = 2}
  for (const auto& [tag, value] : scalars) {
    std::string item;
    PutBytes(1, tag, &item);
    PutTag(2, kFixed32, &item);
    PutFixed(static_cast<float>(value), &item);
    PutBytes(1, item, &summary);
  }
  std::string event = EventHead(wall_time, step);
  PutBytes(5, summary, &event);
  return event;
}

StatusOr<std::unique_ptr<TensorboardWriter>> TensorboardWriter::Create(FileSystem* fs,
                                                                       const std::string& dir,
                                                                       double wall_time) {
  WEFT_RETURN_IF_ERROR(fs->MakeDirs(dir));
  char host[HOST_NAME_MAX + 1] = "localhost";
  ::gethostname(host, sizeof host - 1);
  char name[HOST_NAME_MAX + 80];
  std::snprintf(name, sizeof name, "events.out.tfevents.%010.0f.%s.%d", wall_time, host,
                ::getpid());
  WEFT_ASSIGN_OR_RETURN(auto file, fs->OpenAppend(JoinPath(dir, name)));
  WEFT_RETURN_IF_ERROR(file->Append(TfRecord(FileVersionEvent(wall_time))));
  return std::unique_ptr<TensorboardWriter>(new TensorboardWriter(std::move(file)));
}

Status TensorboardWriter::WriteSessionStart(double wall_time, int64_t step) {
  return file_->Append(TfRecord(SessionStartEvent(wall_time, step)));
}

Status TensorboardWriter::WriteScalars(double wall_time, int64_t step, const Scalars& scalars) {
  return file_->Append(TfRecord(ScalarsEvent(wall_time, step, scalars)));
}

}  // namespace weft
