// LibTorch's CPU allocator with a ticket (memory_meter.h) in the 64 bytes before each block.
//
// Thread rule: Install once, by main, before the first tensor that is to be counted; blocks of before keep their own deleters.
#pragma once

namespace weft {

// Every CPU tensor of the process from now on.
void InstallMeteredAllocator();

}  // namespace weft
