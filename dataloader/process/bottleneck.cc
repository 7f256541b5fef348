#include "dataloader/process/bottleneck.h"

#include <algorithm>
#include <cstdio>

namespace weft {
namespace {

const char* Name(Bottleneck bottleneck) {
  switch (bottleneck) {
    case Bottleneck::kConsumer:
      return "consumer";
    case Bottleneck::kRead:
      return "read";
    case Bottleneck::kDecode:
      return "decode";
    case Bottleneck::kCores:
      return "decode, for want of free cores";
  }
  return "";
}

double Percent(double part, double whole) { return whole > 0 ? 100 * part / whole : 0; }

}  // namespace

Bottleneck FindBottleneck(const RingInterval& interval) {
  if (2 * interval.full_s >= interval.seconds) return Bottleneck::kConsumer;
  const LoaderTimes& threads = interval.threads;
  if (threads.read_s > std::max(threads.decode_s, threads.core_wait_s)) return Bottleneck::kRead;
  return threads.core_wait_s > threads.decode_s ? Bottleneck::kCores : Bottleneck::kDecode;
}

std::string Describe(const RingInterval& interval) {
  const LoaderTimes& threads = interval.threads;
  const double busy = threads.decode_s + threads.read_s + threads.core_wait_s;
  char text[256];
  std::snprintf(text, sizeof text,
                "%.1f micro-batches/s; bottleneck: %s (ring full %.0f %% of the time; threads "
                "%.0f %% decode, %.0f %% read, %.0f %% waited for a core)",
                interval.seconds > 0 ? interval.micro_batches / interval.seconds : 0,
                Name(FindBottleneck(interval)), Percent(interval.full_s, interval.seconds),
                Percent(threads.decode_s, busy), Percent(threads.read_s, busy),
                Percent(threads.core_wait_s, busy));
  return text;
}

}  // namespace weft
