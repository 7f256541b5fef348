#include "cluster/agent/fault_injection.h"

#include <signal.h>

#include <charconv>

#include "cluster/base/text.h"

namespace weft {
namespace {

bool ParseNumber(const std::string& text, int64_t* value) {
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), *value);
  return parsed.ec == std::errc() && parsed.ptr == text.data() + text.size() && *value >= 0;
}

}  // namespace

StatusOr<FaultInjection> ParseFaultInjection(const std::string& text) {
  const Status bad = InvalidArgument("--inject '" + text +
                                     "': the form is kill:rank=1,step=33 (or stop: for a hang)");
  const size_t colon = text.find(':');
  if (colon == std::string::npos) return bad;
  const std::string kind = text.substr(0, colon);
  FaultInjection fault;
  if (kind == "kill") fault.signal = SIGKILL;
  if (kind == "stop") fault.signal = SIGSTOP;
  if (fault.signal == 0) return bad;
  int64_t rank = -1;
  int64_t step = -1;
  for (const std::string& field : Split(text.substr(colon + 1), ',')) {
    const size_t equals = field.find('=');
    if (equals == std::string::npos) return bad;
    const std::string name = field.substr(0, equals);
    int64_t* const target = name == "rank" ? &rank : name == "step" ? &step : nullptr;
    if (target == nullptr || !ParseNumber(field.substr(equals + 1), target)) return bad;
  }
  if (rank < 0 || step < 0) return bad;
  fault.rank = static_cast<int>(rank);
  fault.step = step;
  return fault;
}

std::vector<FaultInjection> FaultInjector::OnStep(uint64_t generation, int64_t step) {
  std::vector<FaultInjection> due;
  if (generation != 1) return due;
  std::vector<FaultInjection> later;
  for (const FaultInjection& fault : pending_) {
    if (fault.step > step) {
      later.push_back(fault);
    } else if (last_step_ < fault.step && last_step_ >= 0) {
      due.push_back(fault);
    } else if (last_step_ < 0 && fault.step == step) {
      due.push_back(fault);
    }  // else: the run resumed from beyond it
  }
  last_step_ = step;
  pending_ = std::move(later);
  return due;
}

}  // namespace weft
