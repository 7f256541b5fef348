// Status and StatusOr: the value of an operation that is expected to fail now and then (a peer is lost, a file is
// torn, a recipe is wrong). Bugs are WEFT_CHECKs (logging.h). A message names the file, field or rank and the remedy.
//
// Thread rule: values; no sharing.
#pragma once

#include <optional>
#include <ostream>
#include <string>
#include <utility>

namespace weft {

enum class StatusCode {
  kOk = 0,
  kInvalidArgument,     // the user's input: recipe, flag, path
  kNotFound,            // a file, step or key that is not there
  kAlreadyExists,       // somebody else holds it
  kFailedPrecondition,  // right request, wrong state (stale token, no commit yet)
  kCorruption,          // bytes that do not verify
  kUnavailable,         // a peer, a disk or a network that is gone
  kDeadlineExceeded,    // a wait that ran out
  kResourceExhausted,   // disk full, memory
  kCancelled,           // asked to stop
  kInternal,            // an exception of a library, caught at a boundary
};

// "INVALID_ARGUMENT", ...
const char* StatusCodeName(StatusCode code);

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }
  // "CORRUPTION: shard-00000.bin: block 3 ...", "OK".
  std::string ToString() const;
  // The same code, with `context + ": "` before the message. OK stays OK.
  Status WithContext(const std::string& context) const;

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

std::ostream& operator<<(std::ostream& os, const Status& status);

inline Status OkStatus() { return {}; }
Status InvalidArgument(std::string message);
Status NotFound(std::string message);
Status AlreadyExists(std::string message);
Status FailedPrecondition(std::string message);
Status Corruption(std::string message);
Status Unavailable(std::string message);
Status DeadlineExceeded(std::string message);
Status ResourceExhausted(std::string message);
Status Cancelled(std::string message);
Status Internal(std::string message);
// Code by errno (ENOENT -> NotFound, ENOSPC -> ResourceExhausted, ...); message "what: strerror".
Status ErrnoStatus(const std::string& what, int error_number);

// A T or the Status that says why there is none.
template <typename T>
class [[nodiscard]] StatusOr {
 public:
  StatusOr(Status status) : status_(std::move(status)) {}  // NOLINT(google-explicit-constructor)
  StatusOr(T value) : value_(std::move(value)) {}          // NOLINT(google-explicit-constructor)

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  // REQUIRES: ok().
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return *std::move(value_); }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return *std::move(value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  Status status_;
  std::optional<T> value_;
};

}  // namespace weft

#define WEFT_CONCAT_INNER(a, b) a##b
#define WEFT_CONCAT(a, b) WEFT_CONCAT_INNER(a, b)

// Leaves the function with the Status if it is not OK.
#define WEFT_RETURN_IF_ERROR(expr)               \
  do {                                           \
    ::weft::Status weft_status_ = (expr);        \
    if (!weft_status_.ok()) return weft_status_; \
  } while (false)

// WEFT_ASSIGN_OR_RETURN(auto x, MakeX()): leaves the function with the Status, or declares x.
#define WEFT_ASSIGN_OR_RETURN(lhs, expr) \
  WEFT_ASSIGN_OR_RETURN_IMPL(WEFT_CONCAT(weft_status_or_, __LINE__), lhs, expr)
#define WEFT_ASSIGN_OR_RETURN_IMPL(tmp, lhs, expr) \
  auto tmp = (expr);                               \
  if (!tmp.ok()) return tmp.status();              \
  lhs = std::move(tmp).value()
