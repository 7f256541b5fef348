// Devices, streams and events of the double as LibTorch's DeviceGuardImplInterface.
#pragma once

#include <c10/core/Stream.h>
#include <cuda_runtime_api.h>

namespace weft::testing {

// The double's stream behind LibTorch's.
cudaStream_t StreamOf(const c10::Stream& stream);
// This thread's on the device.
c10::Stream CurrentStream(c10::DeviceIndex device);
c10::DeviceIndex CurrentDevice();

}  // namespace weft::testing
