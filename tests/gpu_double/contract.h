// What the doubles of CUDA and NCCL say when their caller breaks a rule that the real libraries answer with wrong numbers or a
// hang. A breach is noted and printed; a test that leaves one behind fails (FailTestsOnBreaches), unless it took it, because it
// broke the rule on purpose. Thread rule: any thread may call anything.
#pragma once

#include <string>
#include <vector>

namespace weft::testing {

void NoteBreach(const std::string& what);
// All since the last call.
std::vector<std::string> TakeBreaches();
// From now on a breach ends the process: for programs, which nobody asks for breaches.
void AbortOnBreaches();
// Registers a listener with GoogleTest. Call once, before the tests run; returns true.
bool FailTestsOnBreaches();

}  // namespace weft::testing
