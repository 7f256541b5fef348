// The layouts that `make parity` runs: every dp x tp x pp that fits 8 ranks, and a set in which each pair of values of all
// settings occurs.
#pragma once

#include <string>
#include <vector>

#include "cluster/config/recipe.pb.h"

namespace weft::testing {

struct ParityLayout {
  Layout layout;
  KeepWave keep_wave = GRAPH;

  // "dp2 tp2 sp pp2 zero3 zb_h1 full features even deal": what differs from the defaults.
  std::string Name() const;
  int ranks() const { return layout.dp() * layout.tp() * layout.pp(); }
  // Layouts with the same key promise each other equal bits: tp, sequence parallelism and the encoder's layout.
  std::string BitsKey() const;
};

// One process of that key: what the others are compared with bit by bit.
ParityLayout BitsReference(const ParityLayout& layout);

// At least `least` of them. `blocks`: of the model, which has a stage for each at most; `joins`: the model has a wave that
// can be kept or run again; `encoder`: it has an image encoder.
std::vector<ParityLayout> ParityLayouts(int blocks, bool joins, bool encoder, int least);

}  // namespace weft::testing
