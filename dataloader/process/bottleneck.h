// Which of reading, decoding and the consumer keeps micro-batches from coming faster.
//
// Thread rule: values.
#pragma once

#include <string>

#include "dataloader/loader.h"

namespace weft {

// A stretch of time of one ring.
struct RingInterval {
  double seconds = 0;
  // Of these the ring was full.
  double full_s = 0;
  double micro_batches = 0;
  LoaderTimes threads;
};

enum class Bottleneck { kConsumer, kRead, kDecode, kCores };

Bottleneck FindBottleneck(const RingInterval& interval);
// "4.2 micro-batches/s; bottleneck: decode (ring full 3 % of the time; threads 91 % decode, 4 % read, 5 % waited for a core)".
std::string Describe(const RingInterval& interval);

}  // namespace weft
