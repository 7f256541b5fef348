// One function compiled for several CPU generations, the best taken at run time. For .cc files of pixel loops only: what is
// marked holds integers alone, so all clones give the same bytes.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define WEFT_PIXEL_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), optimize("O3")))
#else
#define WEFT_PIXEL_CLONES
#endif

#define WEFT_ALWAYS_INLINE inline __attribute__((always_inline))
