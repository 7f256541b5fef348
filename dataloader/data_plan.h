// What a run will ask of its nodes' disks and networks, without reading a sample: each node fetches a chunk when it first needs a
// sample of it, keeps it until the last, and drops it.
//
// Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/order.h"

namespace weft {

// A run of neighbouring samples of one shard that is fetched at once.
struct PlannedChunk {
  uint64_t id = 0;  // of the set
  uint64_t bytes = 0;
};

struct DataPlanOptions {
  int64_t nodes = 1;
  int64_t slots = 1;  // node n has slots [n slots / nodes, (n + 1) slots / nodes)
  int64_t steps = 1;
};

struct NodePlan {
  int64_t samples = 0;
  // Chunks fetched, one that is needed in two epochs twice; and their bytes.
  uint64_t reads = 0;
  uint64_t bytes = 0;
  // Different chunks: what a node reads whose disk keeps them all.
  uint64_t chunks = 0;
  uint64_t chunk_bytes = 0;
  // Most bytes of chunks that were begun and are not done, at the end of a step.
  uint64_t peak_cache = 0;
};

struct DataPlan {
  std::vector<NodePlan> nodes;
  // Passes over each set.
  std::vector<double> epochs;
  // Bytes fetched by all nodes over bytes of the samples that they used.
  double amplification = 0;
};

// `chunk_of`: where a sample lies, and its bytes.
using ChunkOf = std::function<StatusOr<PlannedChunk>(const SampleRef&, uint64_t* sample_bytes)>;

// The rows of a slot, as its node's loaders take them.
using RowsOf = std::function<StatusOr<std::vector<SampleRef>>(int64_t step, int64_t slot)>;

StatusOr<DataPlan> PlanData(const RowsOf& rows_of, const std::vector<uint64_t>& set_samples,
                            const DataPlanOptions& options, const ChunkOf& chunk_of);
// Where nothing deals the order's rows anew.
StatusOr<DataPlan> PlanData(const SampleOrder& order, const std::vector<uint64_t>& set_samples,
                            const DataPlanOptions& options, const ChunkOf& chunk_of);

}  // namespace weft
