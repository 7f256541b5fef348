// A double of a GPU as LibTorch sees one, for machines without: LibTorch's PrivateUse1 with the streams, events and memory of
// tests/gpu_double. What would go wrong on a GPU goes wrong here:
//
// * the host that follows a pointer into a tensor of the device dies of it;
// * an operation with tensors of the host and of the device, or of two devices, throws;
// * copies ahead are done late, and the uses of bytes that no event orders are noted as a breach of contract (gpu_double);
// * backward passes run on a thread of LibTorch's for each device, not on the caller's.
//
// An operation is the CPU's kernel on the device's bytes, after all that was put on the current stream: equal bits. Not shown:
// time, operations that wait for each other on the device, and kernels that LibTorch lacks for CUDA.
// Thread rule: LibTorch's.
#pragma once

namespace weft::testing {

// LibTorch has the device from here on: eight of them. Call once, before the first use; returns true.
bool InstallDeviceDouble();

}  // namespace weft::testing
