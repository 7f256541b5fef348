#include "dataloader/batch_grouper.h"

#include <algorithm>
#include <utility>

#include "cluster/base/hash.h"
#include "cluster/base/logging.h"
#include "dataloader/permutation.h"

namespace weft {
namespace {

// Entries of a window that are looked at for a substitute of the same kind.
constexpr int64_t kMaxLookedAt = 4096;

// A bucket's places of one slot, by kind and in the order of the batches.
struct SlotPlaces {
  std::vector<int32_t> pictures;
  std::vector<int32_t> others;
};

// Swaps a picture of one slot for another sample of the other.
void MovePicture(SlotPlaces* from, SlotPlaces* to) {
  to->pictures.push_back(from->pictures.back());
  from->pictures.pop_back();
  from->others.push_back(to->others.back());
  to->others.pop_back();
}

// The nearest slot to `slot` that `wanted` holds for; -1: none.
template <typename Wanted>
int64_t Nearest(int64_t slot, int64_t slots, const Wanted& wanted) {
  for (int64_t away = 1; away < slots; ++away) {
    if (slot - away >= 0 && wanted(slot - away)) return slot - away;
    if (slot + away < slots && wanted(slot + away)) return slot + away;
  }
  return -1;
}

// Leaves each slot with `least` to `most` pictures, in as few swaps as that takes. REQUIRES: the mean lies between the two.
void EvenOut(size_t least, size_t most, std::vector<SlotPlaces>* places) {
  const auto slots = static_cast<int64_t>(places->size());
  const auto count = [places](int64_t slot) {
    return (*places)[static_cast<size_t>(slot)].pictures.size();
  };
  const auto move = [places](int64_t from, int64_t to) {
    WEFT_CHECK(from >= 0 && to >= 0) << "a bucket whose pictures fit into no slot";
    MovePicture(&(*places)[static_cast<size_t>(from)], &(*places)[static_cast<size_t>(to)]);
  };
  for (int64_t slot = 0; slot < slots; ++slot) {
    while (count(slot) > most) {
      int64_t to = Nearest(slot, slots, [&](int64_t other) { return count(other) < least; });
      if (to < 0) to = Nearest(slot, slots, [&](int64_t other) { return count(other) < most; });
      move(slot, to);
    }
  }
  for (int64_t slot = 0; slot < slots; ++slot) {
    while (count(slot) < least)
      move(Nearest(slot, slots, [&](int64_t other) { return count(other) > least; }), slot);
  }
}

}  // namespace

std::vector<int32_t> GroupRows(int64_t batches, int64_t slots, uint64_t key,
                               std::span<const uint8_t> has_picture) {
  const auto num_slots = static_cast<size_t>(slots);
  const size_t batch = has_picture.size() / static_cast<size_t>(batches);
  const size_t rows = batch / num_slots;
  WEFT_CHECK_EQ(rows * num_slots * static_cast<size_t>(batches), has_picture.size());
  std::vector<SlotPlaces> places(num_slots);
  size_t pictures = 0;
  for (size_t i = 0; i < has_picture.size(); ++i) {
    SlotPlaces& slot = places[i / rows % num_slots];
    (has_picture[i] != 0 ? slot.pictures : slot.others).push_back(static_cast<int32_t>(i));
    pictures += has_picture[i] != 0 ? 1 : 0;
  }
  // Of each slot in the batches of pictures; up to `rows` more are in the mixed one.
  const size_t least = pictures / batch * rows;
  EvenOut(least, pictures % batch == 0 ? least : least + rows, &places);

  const Permutation order(static_cast<uint64_t>(batches), key);
  std::vector<int32_t> grouped(has_picture.size());
  for (size_t slot = 0; slot < num_slots; ++slot) {
    // Batches of pictures, then the mixed one, if there is one, then the others.
    std::vector<int32_t> samples = std::move(places[slot].pictures);
    samples.insert(samples.end(), places[slot].others.begin(), places[slot].others.end());
    for (size_t i = 0; i < static_cast<size_t>(batches); ++i) {
      const auto begin = samples.begin() + static_cast<std::ptrdiff_t>(i * rows);
      // A row belongs to a lane: each sample as near to its own as the others let it.
      std::sort(begin, begin + static_cast<std::ptrdiff_t>(rows),
                [n = static_cast<int32_t>(rows)](int32_t a, int32_t b) {
                  return std::pair(a % n, a) < std::pair(b % n, b);
                });
      std::copy_n(
          begin, rows,
          grouped.begin() + static_cast<std::ptrdiff_t>((order(i) * num_slots + slot) * rows));
    }
  }
  return grouped;
}

BatchGrouper::BatchGrouper(const DataRecipe& data, uint64_t seed, SampleOrder order,
                           const SampleMix* mix)
    : grouped_(data.batcher().group() == BatcherRecipe::PICTURES),
      key_(HashCombine(Mix64(seed), Fnv1a64("order of grouped batches"))),
      order_(std::move(order)),
      mix_(mix),
      batches_((data.batcher().bucket() + order_.global_batch() - 1) / order_.global_batch()),
      begins_{0} {
  for (const MixSegment& segment : data.mix().segments()) begins_.push_back(segment.from_step());
}

StatusOr<SampleRef> BatchGrouper::At(int64_t step, int64_t slot, int64_t row, int64_t substitute) {
  if (!grouped_) return order_.At(step, slot, row, substitute);
  WEFT_ASSIGN_OR_RETURN(const Place place, PlaceOf(step, slot, row));
  if (substitute > 0) return Substitute(place, substitute);
  return order_.At(place.step, place.slot, place.row);
}

StatusOr<std::vector<SampleRef>> BatchGrouper::Rows(int64_t step, int64_t slot) {
  if (!grouped_) return order_.Rows(step, slot);
  std::vector<SampleRef> rows;
  rows.reserve(static_cast<size_t>(order_.rows_per_slot()));
  for (int64_t row = 0; row < order_.rows_per_slot(); ++row) {
    WEFT_ASSIGN_OR_RETURN(const SampleRef ref, At(step, slot, row));
    rows.push_back(ref);
  }
  return rows;
}

BatchGrouper::Bucket BatchGrouper::BucketOf(int64_t step) const {
  const auto after = std::upper_bound(begins_.begin(), begins_.end(), step);
  const int64_t begin = *(after - 1);
  const int64_t first = begin + (step - begin) / batches_ * batches_;
  const int64_t end = first + batches_;
  return {first, after == begins_.end() ? end : std::min(end, *after)};
}

StatusOr<BatchGrouper::Place> BatchGrouper::PlaceOf(int64_t step, int64_t slot, int64_t row) {
  const Bucket bucket = BucketOf(step);
  WEFT_ASSIGN_OR_RETURN(const std::shared_ptr<const Places> places, PlacesOf(bucket));
  const int64_t rows = order_.rows_per_slot();
  const int64_t batch = order_.global_batch();
  const int64_t from =
      (*places)[static_cast<size_t>((step - bucket.first) * batch + slot * rows + row)];
  return Place{bucket.first + from / batch, from % batch / rows, from % rows};
}

StatusOr<std::shared_ptr<const BatchGrouper::Places>> BatchGrouper::PlacesOf(const Bucket& bucket) {
  MutexLock lock(mutex_);
  const auto found = buckets_.find(bucket.first);
  if (found != buckets_.end()) return found->second;
  // Under the lock: whoever else wants this bucket would compute the same.
  WEFT_ASSIGN_OR_RETURN(Places places, Compute(bucket));
  if (buckets_.size() >= kMaxBuckets) buckets_.erase(buckets_.begin());
  return buckets_.emplace(bucket.first, std::make_shared<const Places>(std::move(places)))
      .first->second;
}

StatusOr<BatchGrouper::Places> BatchGrouper::Compute(const Bucket& bucket) const {
  std::vector<uint8_t> has_picture;
  has_picture.reserve(static_cast<size_t>((bucket.end - bucket.first) * order_.global_batch()));
  for (int64_t step = bucket.first; step < bucket.end; ++step) {
    for (int64_t slot = 0; slot < order_.slots(); ++slot) {
      for (const SampleRef& ref : order_.Rows(step, slot)) {
        WEFT_ASSIGN_OR_RETURN(const bool has, mix_->HasPicture(ref));
        has_picture.push_back(has ? 1 : 0);
      }
    }
  }
  return GroupRows(bucket.end - bucket.first, order_.slots(),
                   HashCombine(key_, static_cast<uint64_t>(bucket.first)), has_picture);
}

StatusOr<SampleRef> BatchGrouper::Substitute(const Place& place, int64_t substitute) const {
  const SampleRef bad = order_.At(place.step, place.slot, place.row);
  WEFT_ASSIGN_OR_RETURN(const bool wanted, mix_->HasPicture(bad));
  int64_t found = 0;
  for (int64_t k = 1; k <= kMaxLookedAt; ++k) {
    const SampleRef ref = order_.At(place.step, place.slot, place.row, k);
    // Once round the window.
    if (ref == bad) break;
    WEFT_ASSIGN_OR_RETURN(const bool has, mix_->HasPicture(ref));
    if (has == wanted && ++found == substitute) return ref;
  }
  // Too few of its kind: rather a batch that is not pure than the end of the run.
  return order_.At(place.step, place.slot, place.row, substitute - found);
}

}  // namespace weft
