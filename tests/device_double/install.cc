// Linked into a program: LibTorch has the double of a GPU from its start.
#include "tests/device_double/device_double.h"

namespace {

[[maybe_unused]] const bool kInstalled = weft::testing::InstallDeviceDouble();

}  // namespace
