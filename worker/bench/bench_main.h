// What `weft bench` executes: the arguments, the text for people and the JSON.
//
// Thread rule: the main thread.
#pragma once

namespace weft {

// argv behind "bench": "step FILE [--steps N] [--simulate MS] [--blocks N] [--json FILE]"; FILE is a serialised Recipe.
// Returns the exit status.
int BenchMain(int argc, char** argv);

}  // namespace weft
