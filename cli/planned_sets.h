// The data sets of a recipe as `weft data plan` sees them: in which chunk a sample lies, without reading it. Shards as a loader
// with data.cache_dir cuts them (samples, whole chunks); rows of packed conversations; blocks of text in their pack files.
//
// Errors: those of opening shards, vocabulary and tables; messages name the recipe's field. Thread rule: one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/data_plan.h"
#include "dataloader/loader_options.h"

namespace weft {

class DataSet;

class PlannedSet {
 public:
  virtual ~PlannedSet() = default;
  virtual std::vector<uint64_t> ShardSizes() const = 0;
  virtual int64_t num_samples() const = 0;
  virtual StatusOr<PlannedChunk> ChunkOf(int64_t id, uint64_t* sample_bytes) = 0;
  // Further lines about the set, each with its end.
  virtual std::string Note() const { return ""; }
  // Where samples with pictures lie; nullptr: there are none.
  virtual const DataSet* data_set() const { return nullptr; }
};

// Of one set (OptionsOfSet). Only packed rows and blocks of text need vocabulary and model: their tables are made where they
// are not there.
StatusOr<std::unique_ptr<PlannedSet>> OpenPlannedSet(const LoaderOptions& options);

}  // namespace weft
