// A rank's computation on the double of CUDA, for tests of operations that name its stream.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "cluster/comm/communicator.h"
#include "tests/gpu_double/stream.h"

namespace weft::testing {

constexpr size_t kCount = 1000;

// A stream, and numbers in the memory that it works on.
class Compute {
 public:
  explicit Compute(int device) {
    cudaSetDevice(device);
    cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
  }
  ~Compute() { cudaStreamDestroy(stream_); }

  OpOptions Op(const std::string& name, Duration timeout = std::chrono::seconds(20)) const {
    return {.name = name, .timeout = timeout, .stream = stream_};
  }
  // A kernel on the stream: data[i] = scale * data[i] + shift, after `time`.
  void Kernel(int64_t scale, int64_t shift, Duration time = {}) {
    Enqueue(stream_, {"a kernel", {{data.data(), kCount * sizeof(int64_t), true}}, [=, this] {
                        std::this_thread::sleep_for(time);
                        for (int64_t& value : data) value = scale * value + shift;
                      }});
  }
  // A kernel that might write the data: for a breach on purpose, which would be a race of threads here.
  void KernelThatDoesNothing() {
    Enqueue(stream_, {"a kernel", {{data.data(), kCount * sizeof(int64_t), true}}, [] {}});
  }
  void Elsewhere(Duration time) {
    Enqueue(stream_, {"another kernel", {}, [=] { std::this_thread::sleep_for(time); }});
  }
  WorkPtr Sum(Communicator& comm, const OpOptions& options) {
    return comm.AllReduce(data.data(), kCount, DType::kInt64, ReduceOp::kSum, options);
  }
  void Synchronize() { cudaStreamSynchronize(stream_); }
  cudaStream_t stream() const { return stream_; }

  std::vector<int64_t> data = std::vector<int64_t>(kCount, 1);

 private:
  cudaStream_t stream_ = nullptr;
};

}  // namespace weft::testing
