// What the waves of a step leave for the joins, and the gradients that joins leave for the waves: one cell for each
// (wave, name, slot, micro-batch) of this rank's slots. Emptied after each step.
//
// Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <tuple>

namespace weft {

struct StoreKey {
  std::string wave;
  std::string name;
  int slot = 0;
  int micro_batch = 0;
  bool operator<(const StoreKey& other) const {
    return std::tie(wave, name, slot, micro_batch) <
           std::tie(other.wave, other.name, other.slot, other.micro_batch);
  }
};

class StepStore {
 public:
  // A leaf: carries no graph.
  void Put(const StoreKey& key, const at::Tensor& value);
  // REQUIRES: was put.
  const at::Tensor& Get(const StoreKey& key) const;
  // Adds to what earlier joins left.
  void AddGrad(const StoreKey& key, const at::Tensor& grad);
  // Undefined: no join asked for a gradient.
  at::Tensor Grad(const StoreKey& key) const;
  void Clear() { cells_.clear(); }

 private:
  struct Cell {
    at::Tensor value;
    at::Tensor grad;
  };
  std::map<StoreKey, Cell> cells_;
};

}  // namespace weft
