// A build without CUDA.
#include "parallel/memory/device_meter.h"

namespace weft {

void MeterDeviceAllocations() {}

}  // namespace weft
