// Where a rank computes: the host, or one device of the accelerator that LibTorch has here (CUDA; in tests its double). On a
// device LibTorch's operations are put on a stream of our own, and micro-batches are copied ahead on another one.
//
// A host pointer into a device's tensor is never followed: data_ptr() of such a tensor goes to a Communicator or to a kernel;
// numbers come to the host by ToHost, which waits for the stream. Code asks is_cpu(), and no more.
// Errors of Open: FailedPrecondition, naming the device and the remedy. Exceptions of LibTorch pass through elsewhere.
// Thread rule: a value; Open and Enter concern the calling thread.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/Stream.h>

#include <optional>
#include <string>

#include "cluster/base/status.h"

namespace weft {

class ComputeDevice {
 public:
  // The host.
  ComputeDevice() = default;
  // Device number `ordinal` of the accelerator, which becomes this thread's (Enter).
  static StatusOr<ComputeDevice> Open(int ordinal);
  // Devices that Open takes; 0 without an accelerator.
  static int Count();

  bool is_cpu() const { return !compute_.has_value(); }
  at::Device device() const { return device_; }
  // What a tensor of the computation is made with.
  at::TensorOptions Options(at::ScalarType type) const {
    return at::TensorOptions(type).device(device_);
  }
  // cudaStream_t of the computation, as OpOptions::stream wants it; null on the host.
  void* stream() const;
  const std::optional<c10::Stream>& compute_stream() const { return compute_; }
  const std::optional<c10::Stream>& copy_stream() const { return copy_; }

  // Makes device and compute stream those of the calling thread. The threads of LibTorch's autograd follow by themselves.
  void Enter() const;
  // The host waits for what has been put on the compute stream.
  void Synchronize() const;

  // The same tensor on the host, ToHost after all that was put on the stream before; itself if it is there.
  at::Tensor ToHost(const at::Tensor& tensor) const;
  at::Tensor ToDevice(const at::Tensor& tensor) const;
  // On the host, from where a device copies by itself (pinned); plain memory for the host.
  at::Tensor HostBuffer(at::IntArrayRef sizes, at::ScalarType type) const;
  // "cuda:3", "cpu".
  std::string Name() const { return device_.str(); }

 private:
  at::Device device_{at::kCPU};
  std::optional<c10::Stream> compute_;
  std::optional<c10::Stream> copy_;
};

}  // namespace weft
