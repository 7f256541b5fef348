#include "worker/rank_device.h"

#include <ATen/Context.h>

#include <cstdlib>

#include "parallel/memory/device_meter.h"

namespace weft {
namespace {

void AllowOnlyFixedOrder() {
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  at::Context& context = at::globalContext();
  context.setDeterministicAlgorithms(/*b=*/true, /*warn_only=*/false);
  // Every new tensor would be filled with NaN first.
  context.setDeterministicFillUninitializedMemory(false);
  context.setDeterministicCuDNN(true);
  context.setBenchmarkCuDNN(false);
  // Its backward adds with atomics; flash's does not if it is asked, and fp32 and fp64 take plain products.
  context.setSDPUseMemEfficient(false);
  context.setSDPUseCuDNN(false);
}

}  // namespace

StatusOr<ComputeDevice> OpenRankDevice(const Recipe& recipe, int gpu) {
  if (recipe.layout().device() != CUDA) return ComputeDevice();
  if (recipe.deterministic()) AllowOnlyFixedOrder();
  WEFT_ASSIGN_OR_RETURN(ComputeDevice device, ComputeDevice::Open(gpu));
  MeterDeviceAllocations();
  return device;
}

}  // namespace weft
