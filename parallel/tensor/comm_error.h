// A collective that failed inside autograd, where no Status can be returned. Thrown by the Functions of parallel/tensor,
// caught by the engine, which returns the Status.
//
// Thread rule: a value.
#pragma once

#include <exception>
#include <string>
#include <utility>

#include "cluster/base/status.h"

namespace weft {

class CommError : public std::exception {
 public:
  explicit CommError(Status status)
      : status_(std::move(status)), text_("collective failed: " + status_.message()) {}
  const char* what() const noexcept override { return text_.c_str(); }
  const Status& status() const { return status_; }

 private:
  Status status_;
  std::string text_;
};

}  // namespace weft
