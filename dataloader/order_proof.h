// Whether an order gives each sample of each set exactly once an epoch: what `weft data order --prove` counts.
//
// A bit a sample for each epoch that has begun and is not whole. Errors: Internal, naming set, epoch and sample. Thread rule:
// one thread.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/order.h"

namespace weft {

class OrderProof {
 public:
  struct Set {
    std::string name;
    uint64_t samples = 0;
  };
  struct OpenEpoch {
    uint64_t seen = 0;
    std::vector<bool> has;
  };
  struct Epochs {
    // Epochs of which each sample came once.
    std::set<uint64_t> whole;
    // The others, of which none came twice.
    std::map<uint64_t, OpenEpoch> open;
  };

  explicit OrderProof(std::vector<Set> sets) : sets_(std::move(sets)), epochs_(sets_.size()) {}

  // The sample of the next row. Internal: it came before in this epoch.
  Status Add(const SampleRef& ref);
  // Of a walk from step 0 on: whether an epoch is not whole though a later one of its set is. That can only be because lanes and
  // grouped batches are ahead of each other by a few rows: some steps later it is over, or samples are missing.
  bool Overtaken() const;
  // Internal: samples of an overtaken epoch have not come.
  Status CheckNoneMissing() const;

  const std::vector<Set>& sets() const { return sets_; }
  const Epochs& epochs(size_t set) const { return epochs_[set]; }
  // The fewest whole epochs of a set.
  uint64_t LeastWhole() const;

 private:
  std::vector<Set> sets_;
  std::vector<Epochs> epochs_;
};

}  // namespace weft
