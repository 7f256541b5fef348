// weft-worker selftest devices|checks ...: what `weft selftest` wants of the program that has LibTorch.
//
//   devices                                   one line of JSON: [{"name":, "uuid":, "memory_bytes":}]
//   checks --device N|cpu --json FILE RECIPE... kernels, models of the recipes (serialised files), peaks; JSON into FILE
#pragma once

namespace weft {

// Arguments after "selftest". Returns the exit status: 1 if a check failed.
int SelftestMain(int argc, char** argv);

}  // namespace weft
