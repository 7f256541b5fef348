#include "dataloader/mix.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "cluster/base/logging.h"

namespace weft {
namespace {

// ceil(places * weight / total) without overflow; 0 of 0.
uint64_t Share(uint64_t places, uint64_t weight, uint64_t total) {
  if (total == 0) return 0;
  using Wide = unsigned __int128;
  return static_cast<uint64_t>((Wide{places} * weight + total - 1) / total);
}

// Rows of each set in a lane and step, for kCounts.
StatusOr<std::vector<uint64_t>> RowsOfSets(const MixWeights& segment, int64_t lanes, int64_t rows) {
  std::vector<uint64_t> of_set;
  uint64_t sum = 0;
  for (const uint64_t weight : segment.weights) {
    if (weight % static_cast<uint64_t>(lanes) != 0) {
      return InvalidArgument("data.mix.unit is COUNTS: the weight " + std::to_string(weight) +
                             " is no multiple of data.order.lanes = " + std::to_string(lanes));
    }
    of_set.push_back(weight / static_cast<uint64_t>(lanes));
    sum += of_set.back();
  }
  if (sum != static_cast<uint64_t>(rows)) {
    return InvalidArgument("data.mix.unit is COUNTS: the weights of step " +
                           std::to_string(segment.from_step) + " must sum to the global batch of " +
                           std::to_string(rows * lanes));
  }
  return of_set;
}

}  // namespace

Interleave::Interleave(std::vector<uint64_t> weights) : weights_(std::move(weights)) {
  rest_.resize(weights_.size());
  uint64_t sum = 0;
  for (size_t d = weights_.size(); d-- > 0;) rest_[d] = sum += weights_[d];
  WEFT_CHECK(sum > 0) << "a mix without any weight";
}

// Set 0 gets its share of all places, rounded up, the next set its share of what is left, and so on. Each share grows by 0
// or 1 from x to x + 1, and the shares sum to x: so one set alone has place x.
int Interleave::Which(uint64_t x) const {
  uint64_t before = x;
  uint64_t after = x + 1;
  for (size_t d = 0; d < weights_.size(); ++d) {
    const uint64_t share_before = Share(before, weights_[d], rest_[d]);
    const uint64_t share_after = Share(after, weights_[d], rest_[d]);
    if (share_after > share_before) return static_cast<int>(d);
    before -= share_before;
    after -= share_after;
  }
  WEFT_CHECK(false) << "place " << x << " belongs to no set";
  return 0;
}

uint64_t Interleave::CountBefore(int d, uint64_t x) const {
  for (int i = 0; i < d; ++i)
    x -= Share(x, weights_[static_cast<size_t>(i)], rest_[static_cast<size_t>(i)]);
  return Share(x, weights_[static_cast<size_t>(d)], rest_[static_cast<size_t>(d)]);
}

StatusOr<Mix> Mix::Create(const MixOptions& options, int sets, int64_t slots, int64_t lanes,
                          int64_t rows) {
  Mix mix(options.unit, slots, lanes, rows);
  std::vector<MixWeights> segments = options.segments;
  if (segments.empty() && sets == 1) {
    mix.unit_ = MixUnit::kSample;
    segments.push_back({0, {1}});
  }
  if (segments.empty() || segments.front().from_step != 0)
    return InvalidArgument("data.sets: the mix has no weights from step 0 on");
  std::vector<uint64_t> base(static_cast<size_t>(sets) * static_cast<size_t>(lanes));
  for (const MixWeights& given : segments) {
    const uint64_t sum = std::accumulate(given.weights.begin(), given.weights.end(), uint64_t{0});
    if (given.weights.size() != static_cast<size_t>(sets) || sum == 0) {
      return InvalidArgument("data.mix: the weights from step " + std::to_string(given.from_step) +
                             " must be one for each of " + std::to_string(sets) +
                             " sets, not all 0");
    }
    if (!mix.segments_.empty()) {
      const Segment& last = mix.segments_.back();
      if (given.from_step <= last.from_step)
        return InvalidArgument("data.mix.segments must stand in the order of their steps");
      const auto steps = static_cast<uint64_t>(given.from_step - last.from_step);
      for (size_t i = 0; i < base.size(); ++i) {
        const size_t d = i / static_cast<size_t>(lanes);
        base[i] += mix.RowsOf(last, static_cast<int>(d), i % static_cast<size_t>(lanes), steps);
      }
    }
    Segment segment{given.from_step, Interleave(given.weights), {}, base};
    if (mix.unit_ == MixUnit::kCounts) {
      WEFT_ASSIGN_OR_RETURN(segment.rows_of_set, RowsOfSets(given, lanes, rows));
    }
    mix.segments_.push_back(std::move(segment));
  }
  return mix;
}

uint64_t Mix::Start(uint64_t lane) const {
  const auto slots = static_cast<uint64_t>(slots_);
  const uint64_t lanes_per_slot = static_cast<uint64_t>(lanes_) / slots;
  return lane % lanes_per_slot * slots + lane / lanes_per_slot;
}

uint64_t Mix::RowsOf(const Segment& segment, int d, uint64_t lane, uint64_t steps) const {
  const auto rows = static_cast<uint64_t>(rows_);
  const Interleave& interleave = segment.interleave;
  switch (unit_) {
    case MixUnit::kSample:
      return interleave.CountBefore(d, Start(lane) + steps * rows) -
             interleave.CountBefore(d, Start(lane));
    case MixUnit::kBatch:
      return interleave.CountBefore(d, steps) * rows;
    case MixUnit::kCounts:
      return steps * segment.rows_of_set[static_cast<size_t>(d)];
  }
  return 0;
}

const Mix::Segment& Mix::SegmentAt(int64_t step) const {
  const auto after = std::upper_bound(
      segments_.begin(), segments_.end(), step,
      [](int64_t wanted, const Segment& segment) { return wanted < segment.from_step; });
  return *(after - 1);
}

uint64_t Mix::CountBefore(int d, int64_t step, int64_t lane) const {
  const Segment& segment = SegmentAt(step);
  const size_t at =
      static_cast<size_t>(d) * static_cast<size_t>(lanes_) + static_cast<size_t>(lane);
  return segment.base[at] + RowsOf(segment, d, static_cast<uint64_t>(lane),
                                   static_cast<uint64_t>(step - segment.from_step));
}

Mix::Place Mix::At(int64_t step, int64_t lane, int64_t row) const {
  const Segment& segment = SegmentAt(step);
  const auto l = static_cast<uint64_t>(lane);
  const auto steps = static_cast<uint64_t>(step - segment.from_step);
  auto i = static_cast<uint64_t>(row);
  int d = 0;
  uint64_t count = 0;
  switch (unit_) {
    case MixUnit::kSample: {
      const uint64_t x = Start(l) + steps * static_cast<uint64_t>(rows_) + i;
      d = segment.interleave.Which(x);
      count = segment.interleave.CountBefore(d, x) - segment.interleave.CountBefore(d, Start(l));
      break;
    }
    case MixUnit::kBatch:
      d = segment.interleave.Which(steps);
      count = RowsOf(segment, d, l, steps) + i;
      break;
    case MixUnit::kCounts:
      while (i >= segment.rows_of_set[static_cast<size_t>(d)])
        i -= segment.rows_of_set[static_cast<size_t>(d++)];
      count = RowsOf(segment, d, l, steps) + i;
      break;
  }
  const size_t at =
      static_cast<size_t>(d) * static_cast<size_t>(lanes_) + static_cast<size_t>(lane);
  return {d, segment.base[at] + count};
}

}  // namespace weft
