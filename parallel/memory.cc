#include "parallel/memory.h"

#include <malloc.h>

namespace weft {

void KeepFreedMemory() {
#ifdef M_MMAP_MAX
  mallopt(M_MMAP_MAX, 0);  // large blocks come from the heap too
  mallopt(M_TRIM_THRESHOLD, -1);
  mallopt(M_TOP_PAD, 64 << 20);
#endif
}

}  // namespace weft
