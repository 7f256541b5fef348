// Log lines and checks. glog does the writing, in logging.cc only: its macros and LibTorch's have the same names, so no
// other file may include either logging header. WEFT_LOG(INFO) << ...; WEFT_CHECK_EQ(a, b) << "...": prints both values
// and aborts; for bugs only, never for what a user or a network can cause.
//
// Thread rule: any thread may log. InitLogging is called once, by main, before the first line.
#pragma once

#include <sstream>
#include <string>

namespace weft {

enum class LogSeverity { kInfo = 0, kWarning = 1, kError = 2, kFatal = 3 };

struct LoggingOptions {
  std::string program = "weft";
  // Each line starts with it: "rank 3 step 120".
  std::string prefix;
  // Lines below it are dropped (kInfo: all lines).
  LogSeverity min_severity = LogSeverity::kInfo;
};

void InitLogging(const LoggingOptions& options);
// Changes the prefix of later lines (a worker learns its rank after its start).
void SetLogPrefix(const std::string& prefix);

// One line, written when it goes out of scope; kFatal aborts after writing.
class LogMessage {
 public:
  LogMessage(const char* file, int line, LogSeverity severity)
      : file_(file), line_(line), severity_(severity) {}
  ~LogMessage();
  LogMessage(const LogMessage&) = delete;
  LogMessage& operator=(const LogMessage&) = delete;
  std::ostream& stream() { return stream_; }

 private:
  const char* file_;
  int line_;
  LogSeverity severity_;
  std::ostringstream stream_;
};

namespace logging_internal {
// Gives the ternary of WEFT_CHECK a void right-hand side.
struct Voidify {
  void operator&(std::ostream&) {}
};
}  // namespace logging_internal

}  // namespace weft

#define WEFT_SEVERITY_INFO ::weft::LogSeverity::kInfo
#define WEFT_SEVERITY_WARNING ::weft::LogSeverity::kWarning
#define WEFT_SEVERITY_ERROR ::weft::LogSeverity::kError
#define WEFT_SEVERITY_FATAL ::weft::LogSeverity::kFatal
#define WEFT_LOG(severity) ::weft::LogMessage(__FILE__, __LINE__, WEFT_SEVERITY_##severity).stream()

#define WEFT_CHECK(condition) \
  (condition)                 \
      ? (void)0               \
      : ::weft::logging_internal::Voidify() & WEFT_LOG(FATAL) << "Check failed: " #condition " "
#define WEFT_CHECK_OP(op, a, b)                                                      \
  ((a)op(b)) ? (void)0                                                               \
             : ::weft::logging_internal::Voidify() &                                 \
                   WEFT_LOG(FATAL) << "Check failed: " #a " " #op " " #b " (" << (a) \
                                   << " against " << (b) << ") "
#define WEFT_CHECK_EQ(a, b) WEFT_CHECK_OP(==, a, b)
#define WEFT_CHECK_NE(a, b) WEFT_CHECK_OP(!=, a, b)
#define WEFT_CHECK_LT(a, b) WEFT_CHECK_OP(<, a, b)
#define WEFT_CHECK_LE(a, b) WEFT_CHECK_OP(<=, a, b)
#define WEFT_CHECK_GT(a, b) WEFT_CHECK_OP(>, a, b)
#define WEFT_CHECK_GE(a, b) WEFT_CHECK_OP(>=, a, b)
#define WEFT_CHECK_OK(expr)                                               \
  do {                                                                    \
    const ::weft::Status weft_check_status_ = (expr);                     \
    WEFT_CHECK(weft_check_status_.ok()) << weft_check_status_.ToString(); \
  } while (false)
