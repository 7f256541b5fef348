// The C library's allocator, told what a training process is like.
#pragma once

namespace weft {

// Freed blocks stay with the process instead of going back to the kernel: a step frees and allocates the same large tensors
// again and again, and the first touch of fresh memory costs more than the arithmetic. Called once, by main.
void KeepFreedMemory();

}  // namespace weft
