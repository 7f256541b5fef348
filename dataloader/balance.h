// Deals the samples of a batch over its slots so that no slot has much more work than the others, and over a slot's
// micro-batches alike. Each slot keeps its number of samples. Samples stay in their group of neighbouring slots (a node's, so
// that it reads them anyway) but for a few that are swapped between groups.
//
// Longest first onto the least loaded (Graham 1969), then swaps between the heaviest and the lightest.
//
// Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace weft {

struct BalanceOptions {
  int64_t slots = 1;
  int64_t micro_batches = 1;
  // Neighbouring slots that share their samples; 0: each slot has those that the order gives it, in that order.
  int64_t group = 0;
  // At most this share of the batch is swapped between groups.
  double moved = 0;
};

// `costs`: of each row, slot after slot. The result says for each row which row's sample it gets.
// REQUIRES: slots x micro_batches divides costs.size(); costs are at least 0, their sum below 2^62.
std::vector<int32_t> BalanceRows(const BalanceOptions& options, std::span<const int64_t> costs);

// length + attention pairs, rounded, at least 1; pairs: the row's length squared, or of its parts.
int64_t RowCost(int64_t length, int64_t pairs, double attention);
// Of a row that is one part.
inline int64_t RowCost(int64_t length, double attention) {
  return RowCost(length, length * length, attention);
}

}  // namespace weft
