// Linked into a program with the doubles: a breach of their rules ends it.
#include "tests/gpu_double/contract.h"

namespace {

[[maybe_unused]] const bool kAborting = (weft::testing::AbortOnBreaches(), true);

}  // namespace
