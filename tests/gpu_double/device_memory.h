// The memory of the double's devices. A device's address is one that nobody may follow: who reads or writes it as if it were
// the host's dies of it (SIGSEGV). The bytes are elsewhere, and only the double's own copies and kernels look there.
//
// Thread rule: any thread.
#pragma once

#include <cstddef>

namespace weft::testing {

// Null: none is left.
void* AllocateDeviceMemory(size_t bytes);
// REQUIRES: AllocateDeviceMemory made it, or null.
void FreeDeviceMemory(void* address);

bool IsDeviceMemory(const void* address);
// Where the bytes of a device's address are; an address of the host is itself.
void* BytesOf(void* address);
const void* BytesOf(const void* address);

}  // namespace weft::testing
