// Which sample stands at which place of the endless training order: a pure function of the data sets, the seed and the
// place (step, slot, row). Ranks, threads and restarts have no part in it; the state of a run is the step number.
//
// The words: a *lane* is one of L streams that a batch is dealt from (V slots | L lanes | B rows), each lane runs through its
// own share of the chunks of an epoch, W chunks (a *window*) at a time, round robin between the chunks of the window. What
// does not fill a chunk in each lane is the *tail* of the epoch, in one shuffle. dataloader/README.md gives the formula.
//
// Thread rule: immutable once made; At is safe from any thread.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/mix.h"
#include "dataloader/range_finder.h"

namespace weft {

struct OrderOptions {
  uint64_t seed = 0;
  int64_t slots = 1;
  // Rows of a step over all slots: B.
  int64_t global_batch = 0;
  // 0: DefaultLanes.
  int64_t lanes = 0;
  // Samples of a chunk and chunks of a window.
  int64_t chunk = 128;
  int64_t window = 16;
  // How several sets share the rows.
  MixOptions mix;
};

// A data set as the order sees it. The name keys its shuffles, so that another set beside it changes nothing in them.
struct OrderedSet {
  std::string name;
  std::vector<uint64_t> shard_sizes;
};

struct SampleRef {
  int set = 0;
  uint64_t epoch = 0;
  // Position in the set: first shard's first sample is 0.
  uint64_t id = 0;

  friend bool operator==(const SampleRef&, const SampleRef&) = default;
};

// Of the multiples of `slots` up to 1024 that divide `global_batch`: the smallest that is at least 64
// and leaves a lane at most `window` rows a step, else the largest. (With more rows than chunks in a
// window a lane meets chunk mates in one step.) REQUIRES: slots divides global_batch.
int64_t DefaultLanes(int64_t slots, int64_t global_batch, int64_t window);

// Virtual chunks of exactly C samples over shards of any sizes: first the full chunks of each shard, then the shards'
// leftovers one after the other, cut into chunks; what remains is shorter than C. A canonical id counts samples in this order.
class ChunkLayout {
 public:
  ChunkLayout(const std::vector<uint64_t>& shard_sizes, uint64_t chunk);
  uint64_t num_samples() const { return num_samples_; }
  uint64_t num_chunks() const { return num_samples_ / chunk_; }
  uint64_t chunk() const { return chunk_; }
  // Canonical id -> position in the set, and back. REQUIRES: id < num_samples().
  uint64_t ToSequential(uint64_t canonical) const;
  uint64_t ToCanonical(uint64_t sequential) const;

 private:
  uint64_t chunk_;
  uint64_t num_samples_ = 0;
  // Per shard: samples before it.
  std::vector<uint64_t> first_sample_;
  // Which shard has a sample of the full chunks, or of the leftovers.
  RangeFinder full_;
  RangeFinder leftover_;
};

class SampleOrder {
 public:
  // Errors: InvalidArgument, naming the recipe's field.
  static StatusOr<SampleOrder> Create(const OrderOptions& options, std::vector<OrderedSet> sets);

  // Row `row` in [0, B / V) of slot `slot` in step `step`. `substitute` = k > 0: the entry k places further in the same
  // window, for the k-th try to replace a bad sample.
  SampleRef At(int64_t step, int64_t slot, int64_t row, int64_t substitute = 0) const;

  // All rows of a slot: the same as At for each, in less than half the time.
  std::vector<SampleRef> Rows(int64_t step, int64_t slot) const;

  // About the first step from `step` on in which one of the slots (`of_slot`[slot]) needs a sample of the chunk of sample
  // `id`, without looking at any row: the chunk's place in the epochs' shuffles says in which window of which lane it comes.
  // Not before the window begins, so at most a window early; a mix of several sets is taken at its mean rate. For caches.
  int64_t NextNeed(int set, uint64_t id, int64_t step, const std::vector<bool>& of_slot) const;

  int64_t lanes() const { return lanes_; }
  int64_t slots() const { return options_.slots; }
  int64_t global_batch() const { return options_.global_batch; }
  // Rows of a lane in a step: R.
  int64_t rows_per_lane() const { return options_.global_batch / lanes_; }
  // Steps in which a lane reads one window of full size.
  int64_t steps_per_window() const {
    return (options_.chunk * options_.window + rows_per_lane() - 1) / rows_per_lane();
  }
  int64_t rows_per_slot() const { return options_.global_batch / options_.slots; }
  // The set's epoch that the last row of `step` belongs to, for progress lines.
  uint64_t EpochAt(int64_t step) const {
    return At(step, options_.slots - 1, rows_per_slot() - 1).epoch;
  }

 private:
  struct Set {
    uint64_t name_hash;
    ChunkLayout layout;
    // m: chunks of a lane in an epoch; T: samples of the tail.
    uint64_t chunks_per_lane;
    uint64_t tail;
  };

  SampleOrder(const OrderOptions& options, int64_t lanes, Mix mix)
      : options_(options), lanes_(lanes), mix_(std::move(mix)) {}
  uint64_t Key(const Set& set, uint64_t epoch, const char* purpose) const;
  // The order of the chunks in the window that was asked for last: neighbouring rows of a lane share it.
  struct WindowMemo {
    uint64_t key = 0;
    std::vector<uint64_t> places;
  };

  // Positions [begin, end) of the set's own stream in which an epoch needs a chunk; lane -1: any lane does (the tail).
  struct Visit {
    uint64_t begin = 0;
    uint64_t end = 0;
    int64_t lane = -1;
  };

  SampleRef At(int64_t step, int64_t slot, int64_t row, int64_t substitute, WindowMemo* memo) const;
  Visit VisitOf(const Set& set, uint64_t canonical, uint64_t epoch) const;
  // q: position in the set's own endless stream.
  SampleRef Locate(int set_index, uint64_t q, uint64_t substitute, WindowMemo* memo) const;
  // The place in the epoch's chunk order of a row of a lane.
  uint64_t MainPlace(const Set& set, uint64_t epoch, uint64_t lane, uint64_t row,
                     uint64_t substitute, WindowMemo* memo) const;

  OrderOptions options_;
  int64_t lanes_;
  Mix mix_;
  std::vector<Set> sets_;
};

}  // namespace weft
