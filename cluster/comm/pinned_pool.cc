#include "cluster/comm/pinned_pool.h"

#include <algorithm>
#include <bit>

namespace weft {
namespace {

// A few sizes instead of many, so that buffers fit the next operation.
constexpr size_t kSmallest = 4096;

}  // namespace

StatusOr<std::unique_ptr<PinnedBuffer>> PinnedBuffer::Create(size_t bytes) {
  void* data = nullptr;
  const cudaError_t error = cudaMallocHost(&data, bytes);
  if (error != cudaSuccess) {
    return ResourceExhausted("no " + std::to_string(bytes) +
                             " bytes of pinned memory: " + cudaGetErrorString(error));
  }
  return std::unique_ptr<PinnedBuffer>(new PinnedBuffer(static_cast<char*>(data), bytes));
}

PinnedBuffer::~PinnedBuffer() {
  // A copy that failed does not use it either.
  if (last_use_ != nullptr) static_cast<void>(last_use_->Synchronize());
  cudaFreeHost(data_);
}

StatusOr<std::unique_ptr<PinnedBuffer>> PinnedPool::Take(size_t bytes) {
  auto best = free_.end();
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    if ((*it)->bytes() < bytes || (*it)->InUse()) continue;
    if (best == free_.end() || (*it)->bytes() < (*best)->bytes()) best = it;
  }
  if (best == free_.end()) return PinnedBuffer::Create(std::bit_ceil(std::max(bytes, kSmallest)));
  std::unique_ptr<PinnedBuffer> taken = std::move(*best);
  free_.erase(best);
  return taken;
}

}  // namespace weft
