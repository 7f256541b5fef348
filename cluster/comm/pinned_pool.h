// Pinned memory of the host, kept for the next operation: getting it from CUDA takes longer than many copies. Not for others than
// staged_communicator.cc.
//
// Errors: ResourceExhausted if CUDA has none left. Thread rule: one thread.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/comm/nccl_calls.h"

namespace weft {

class PinnedBuffer {
 public:
  static StatusOr<std::unique_ptr<PinnedBuffer>> Create(size_t bytes);
  // Waits until no copy uses it.
  ~PinnedBuffer();
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;

  char* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  // After this event no copy uses it.
  void SetLastUse(std::shared_ptr<nccl::Event> event) { last_use_ = std::move(event); }
  bool InUse() const { return last_use_ != nullptr && last_use_->Query() == cudaErrorNotReady; }

 private:
  PinnedBuffer(char* data, size_t bytes) : data_(data), bytes_(bytes) {}

  char* const data_;
  const size_t bytes_;
  std::shared_ptr<nccl::Event> last_use_;
};

class PinnedPool {
 public:
  // The smallest free buffer of at least so many bytes, or a new one.
  StatusOr<std::unique_ptr<PinnedBuffer>> Take(size_t bytes);
  void Give(std::unique_ptr<PinnedBuffer> buffer) { free_.push_back(std::move(buffer)); }
  // A copy may still come to it: it stays until the pool goes.
  void Keep(std::unique_ptr<PinnedBuffer> buffer) { kept_.push_back(std::move(buffer)); }

 private:
  std::vector<std::unique_ptr<PinnedBuffer>> free_;
  std::vector<std::unique_ptr<PinnedBuffer>> kept_;
};

}  // namespace weft
