// The operations that a communicator is in, and whom they wait for: what CurrentOperation and the verdict of a deadline say.
//
// Thread rule: a value; its owner guards it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cluster/base/clock.h"
#include "cluster/comm/operation.h"

namespace weft {

struct UnderWay {
  std::shared_ptr<OpState> state;
  std::string waiting_for;  // "ranks 1, 2"; "": nobody is known to be missing
};

// "all_reduce grads #5, waiting for rank 1"; several are joined by "; ".
std::string Describe(const std::vector<UnderWay>& under_way);
// "all_reduce grads #5: not done after 2.0s, waiting for rank 1", or what is still under way before it.
std::string DescribeDeadline(const std::vector<UnderWay>& under_way, const OpState& state,
                             Duration timeout);
void Remove(const OpState& state, std::vector<UnderWay>* under_way);

}  // namespace weft
