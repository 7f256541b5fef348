// Batches of one kind: samples with a picture share a batch, samples without one share another (LLaVA-1.5's grouping by
// modality). Neighbouring batches of the order form a *bucket*; grouping permutes the rows of a bucket, nothing else, so each
// sample comes as often as the order says. What fills no batch of its kind shares the one mixed batch of the bucket.
//
// A pure function of the order and the shards' indexes: no state but the step number, the same on all ranks. A bucket is worked
// out once and kept while its batches are in the making: 4 bytes a position.
//
// Errors: those of reading an index (Unavailable). Thread rule: safe from any thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "cluster/base/mutex.h"
#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"
#include "dataloader/order.h"
#include "dataloader/sample_mix.h"

namespace weft {

// Groups the rows of the batches of a bucket. `has_picture`: 1 or 0 of each place, batch after batch, slot after slot. The
// result says for each place which place's sample it gets. Batches come in an order drawn by `key`. A sample leaves its slot
// only if the slot has too many or too few of its kind, and then for the nearest slot that can take it; in its new batch it
// stands where its lane is, as far as it can. REQUIRES: slots x batches divides has_picture.size(), which is below 2^31.
std::vector<int32_t> GroupRows(int64_t batches, int64_t slots, uint64_t key,
                               std::span<const uint8_t> has_picture);

class BatchGrouper {
 public:
  // `mix` outlives the grouper.
  BatchGrouper(const DataRecipe& data, uint64_t seed, SampleOrder order, const SampleMix* mix);

  // As SampleOrder::At. A substitute comes from the window of the place that the sample came from and is of its kind, where
  // the window has such a one.
  StatusOr<SampleRef> At(int64_t step, int64_t slot, int64_t row, int64_t substitute = 0);
  // As SampleOrder::Rows: all rows of a slot.
  StatusOr<std::vector<SampleRef>> Rows(int64_t step, int64_t slot);
  const SampleOrder& order() const { return order_; }

  // The steps [first, end) that are grouped together with `step`: data.batcher.bucket positions rounded up to whole batches,
  // counted from step 0 or from where a segment of the mix begins, and cut where the next one begins.
  struct Bucket {
    int64_t first = 0;
    int64_t end = 0;
  };
  Bucket BucketOf(int64_t step) const;

 private:
  using Places = std::vector<int32_t>;
  struct Place {
    int64_t step = 0;
    int64_t slot = 0;
    int64_t row = 0;
  };
  // Buckets that are kept: those whose batches are in the making.
  static constexpr size_t kMaxBuckets = 4;

  StatusOr<Place> PlaceOf(int64_t step, int64_t slot, int64_t row);
  StatusOr<std::shared_ptr<const Places>> PlacesOf(const Bucket& bucket);
  StatusOr<Places> Compute(const Bucket& bucket) const;
  StatusOr<SampleRef> Substitute(const Place& place, int64_t substitute) const;

  const bool grouped_;
  const uint64_t key_;
  const SampleOrder order_;
  const SampleMix* const mix_;
  // Batches of a whole bucket.
  const int64_t batches_;
  // Steps at which a bucket begins whatever came before: 0 and those of the mix's segments.
  std::vector<int64_t> begins_;

  Mutex mutex_;
  // By first step.
  std::map<int64_t, std::shared_ptr<const Places>> buckets_ WEFT_GUARDED_BY(mutex_);
};

}  // namespace weft
