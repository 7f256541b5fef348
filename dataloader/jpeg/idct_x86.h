// The transforms with SSE2, AVX2 and AVX-512: see idct.h.
#pragma once

#include <vector>

#include "dataloader/jpeg/idct.h"

namespace weft::jpeg {

// Those that this machine runs, the fastest last; none for shrink 4 and 8, and none on other processors.
std::vector<GroupIdct> X86Idcts(int shrink);

}  // namespace weft::jpeg
