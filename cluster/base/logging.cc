#include "cluster/base/logging.h"

#include <glog/logging.h>

#include <mutex>

namespace weft {
namespace {

struct Prefix {
  std::mutex mutex;
  std::string text;
};

Prefix& GlobalPrefix() {
  static auto* prefix = new Prefix;  // lives as long as any thread may log
  return *prefix;
}

}  // namespace

void InitLogging(const LoggingOptions& options) {
  static std::string program;  // glog keeps the pointer
  program = options.program;
  FLAGS_logtostderr = true;
  FLAGS_minloglevel = static_cast<int>(options.min_severity);
  if (!google::IsGoogleLoggingInitialized()) google::InitGoogleLogging(program.c_str());
  SetLogPrefix(options.prefix);
}

void SetLogPrefix(const std::string& prefix) {
  Prefix& global = GlobalPrefix();
  const std::lock_guard<std::mutex> lock(global.mutex);
  global.text = prefix.empty() ? "" : prefix + ": ";
}

LogMessage::~LogMessage() {
  std::string prefix;
  {
    Prefix& global = GlobalPrefix();
    const std::lock_guard<std::mutex> lock(global.mutex);
    prefix = global.text;
  }
  google::LogMessage(file_, line_, static_cast<google::LogSeverity>(severity_)).stream()
      << prefix << stream_.str();
}

}  // namespace weft
