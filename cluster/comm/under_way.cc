#include "cluster/comm/under_way.h"

#include <algorithm>

#include "cluster/base/text.h"

namespace weft {

std::string Describe(const std::vector<UnderWay>& under_way) {
  std::string text;
  for (const UnderWay& one : under_way) {
    if (!text.empty()) text += "; ";
    text += one.state->what;
    if (!one.waiting_for.empty()) text += ", waiting for " + one.waiting_for;
  }
  return text;
}

std::string DescribeDeadline(const std::vector<UnderWay>& under_way, const OpState& state,
                             Duration timeout) {
  std::string message = state.what + ": not done after " + HumanSeconds(ToSeconds(timeout));
  const auto own = std::find_if(under_way.begin(), under_way.end(),
                                [&](const UnderWay& one) { return one.state.get() == &state; });
  if (own != under_way.end()) {
    if (!own->waiting_for.empty()) message += ", waiting for " + own->waiting_for;
  } else if (!under_way.empty()) {
    message += "; still under way before it: " + Describe(under_way);
  }
  return message;
}

void Remove(const OpState& state, std::vector<UnderWay>* under_way) {
  std::erase_if(*under_way, [&](const UnderWay& one) { return one.state.get() == &state; });
}

}  // namespace weft
