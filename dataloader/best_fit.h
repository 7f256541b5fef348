// Best-fit-decreasing packing: the longest first, each into the row with the least room that still holds it, else into a new
// one. Within groups of 512 samples it fills rows to 95 % and more of what fits (Krell et al. 2021 compare such heuristics).
//
// Thread rule: pure.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace weft {

// What a conversation takes of a row.
struct RowNeeds {
  int32_t tokens = 0;
  bool picture = false;
};

// The rows: numbers of their items, rising. Every item is in exactly one; rows in the order in which they were begun.
// REQUIRES: 1 <= tokens <= room of each item; pictures >= 1.
std::vector<std::vector<int32_t>> PackBestFit(std::span<const RowNeeds> items, int32_t room,
                                              int32_t pictures);

}  // namespace weft
