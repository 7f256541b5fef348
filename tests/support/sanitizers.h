// Whether this build is instrumented (presets debug and tsan). Threads, bytes and files are then watched as ever; the memory of
// a process, which is mostly the sanitizer's own, says nothing, and all takes up to kTimeScale times as long, as in
// cmake/WeftTargets.cmake.
#pragma once

namespace weft::testing {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

inline constexpr int kTimeScale = kSanitized ? 10 : 1;

}  // namespace weft::testing
