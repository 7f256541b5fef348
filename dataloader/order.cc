#include "dataloader/order.h"

#include <algorithm>
#include <utility>

#include "cluster/base/hash.h"
#include "dataloader/permutation.h"

namespace weft {
namespace {

constexpr int64_t kMinLanes = 64;
constexpr int64_t kMaxLanes = 1024;
// Epochs that are looked through for the next one in which a chunk comes to one of some slots.
constexpr uint64_t kEpochsAhead = 32;
// Steps over which a mix's mean rate is taken.
constexpr int64_t kRateSteps = 1 << 16;

}  // namespace

int64_t DefaultLanes(int64_t slots, int64_t global_batch, int64_t window) {
  int64_t largest = slots;
  for (int64_t lanes = slots; lanes <= std::min(global_batch, kMaxLanes); lanes += slots) {
    if (global_batch % lanes != 0) continue;
    if (lanes >= kMinLanes && global_batch / lanes <= window) return lanes;
    largest = lanes;
  }
  return largest;
}

ChunkLayout::ChunkLayout(const std::vector<uint64_t>& shard_sizes, uint64_t chunk) : chunk_(chunk) {
  std::vector<uint64_t> full{0};
  std::vector<uint64_t> leftover{0};
  for (const uint64_t size : shard_sizes) {
    first_sample_.push_back(num_samples_);
    num_samples_ += size;
    full.push_back(full.back() + size / chunk * chunk);
    leftover.push_back(leftover.back() + size % chunk);
  }
  full_ = RangeFinder(std::move(full));
  leftover_ = RangeFinder(std::move(leftover));
}

uint64_t ChunkLayout::ToSequential(uint64_t canonical) const {
  if (canonical < full_.total()) {
    const size_t shard = full_.Find(canonical);
    return first_sample_[shard] + canonical - full_.start(shard);
  }
  const uint64_t place = canonical - full_.total();
  const size_t shard = leftover_.Find(place);
  const uint64_t in_chunks = full_.start(shard + 1) - full_.start(shard);
  return first_sample_[shard] + in_chunks + place - leftover_.start(shard);
}

uint64_t ChunkLayout::ToCanonical(uint64_t sequential) const {
  const auto after = std::upper_bound(first_sample_.begin(), first_sample_.end(), sequential);
  const auto shard = static_cast<size_t>(after - first_sample_.begin()) - 1;
  const uint64_t index = sequential - first_sample_[shard];
  const uint64_t in_chunks = full_.start(shard + 1) - full_.start(shard);
  if (index < in_chunks) return full_.start(shard) + index;
  return full_.total() + leftover_.start(shard) + index - in_chunks;
}

StatusOr<SampleOrder> SampleOrder::Create(const OrderOptions& options,
                                          std::vector<OrderedSet> sets) {
  const int64_t slots = options.slots;
  const int64_t batch = options.global_batch;
  if (slots < 1 || batch < 1 || batch % slots != 0) {
    return InvalidArgument("batch.slots: " + std::to_string(slots) +
                           " does not divide the global batch of " + std::to_string(batch));
  }
  if (options.chunk < 1) return InvalidArgument("data.order.chunk must be at least 1");
  if (options.window < 1) return InvalidArgument("data.order.window must be at least 1");
  const int64_t lanes =
      options.lanes > 0 ? options.lanes : DefaultLanes(slots, batch, options.window);
  if (lanes % slots != 0 || batch % lanes != 0) {
    return InvalidArgument("data.order.lanes: " + std::to_string(lanes) +
                           " must be a multiple of batch.slots (" + std::to_string(slots) +
                           ") and divide the global batch (" + std::to_string(batch) + ")");
  }
  WEFT_ASSIGN_OR_RETURN(Mix mix, Mix::Create(options.mix, static_cast<int>(sets.size()), slots,
                                             lanes, batch / lanes));
  SampleOrder order(options, lanes, std::move(mix));
  for (const OrderedSet& set : sets) {
    ChunkLayout layout(set.shard_sizes, static_cast<uint64_t>(options.chunk));
    const auto n = static_cast<int64_t>(layout.num_samples());
    if (n == 0) return InvalidArgument("data set " + set.name + " has no samples");
    // Each lane's chunks must fit wherever in the lanes the epoch begins, hence L - 1 samples less.
    const int64_t m = std::max<int64_t>(0, (n - (lanes - 1)) / (lanes * options.chunk));
    order.sets_.push_back({Fnv1a64(set.name), std::move(layout), static_cast<uint64_t>(m),
                           static_cast<uint64_t>(n - lanes * m * options.chunk)});
  }
  return order;
}

uint64_t SampleOrder::Key(const Set& set, uint64_t epoch, const char* purpose) const {
  uint64_t key = HashCombine(Mix64(options_.seed), set.name_hash);
  key = HashCombine(key, epoch);
  return HashCombine(key, Fnv1a64(purpose));
}

SampleRef SampleOrder::At(int64_t step, int64_t slot, int64_t row, int64_t substitute) const {
  return At(step, slot, row, substitute, nullptr);
}

std::vector<SampleRef> SampleOrder::Rows(int64_t step, int64_t slot) const {
  std::vector<SampleRef> rows;
  rows.reserve(static_cast<size_t>(rows_per_slot()));
  WindowMemo memo;
  for (int64_t row = 0; row < rows_per_slot(); ++row) rows.push_back(At(step, slot, row, 0, &memo));
  return rows;
}

SampleRef SampleOrder::At(int64_t step, int64_t slot, int64_t row, int64_t substitute,
                          WindowMemo* memo) const {
  const int64_t lanes_per_slot = lanes_ / options_.slots;
  const int64_t rows_per_lane = options_.global_batch / lanes_;
  const int64_t lane = slot * lanes_per_slot + row / rows_per_lane;
  const Mix::Place place = mix_.At(step, lane, row % rows_per_lane);
  const uint64_t q = place.count * static_cast<uint64_t>(lanes_) + static_cast<uint64_t>(lane);
  return Locate(place.set, q, static_cast<uint64_t>(substitute), memo);
}

SampleRef SampleOrder::Locate(int set_index, uint64_t q, uint64_t substitute,
                              WindowMemo* memo) const {
  const Set& set = sets_[static_cast<size_t>(set_index)];
  const auto lanes = static_cast<uint64_t>(lanes_);
  const uint64_t total = set.layout.num_samples();
  const uint64_t chunk = set.layout.chunk();
  const uint64_t main = lanes * set.chunks_per_lane * chunk;
  const uint64_t epoch = q / total;
  const uint64_t g = q % total;
  // The epoch's first positions, up to the next multiple of L, belong to the tail: then row and lane follow from g - h.
  const uint64_t h = (lanes - epoch % lanes * (total % lanes) % lanes) % lanes;
  uint64_t place = 0;
  if (main > 0 && g >= h && g < h + main) {
    place = MainPlace(set, epoch, (g - h) % lanes, (g - h) / lanes, substitute, memo);
  } else {
    const uint64_t u = main == 0 || g < h ? g : g - main;
    place = main + Permutation(set.tail, Key(set, epoch, "tail"))((u + substitute) % set.tail);
  }
  const uint64_t num_chunks = set.layout.num_chunks();
  uint64_t canonical = place;
  if (place < num_chunks * chunk) {
    canonical =
        Permutation(num_chunks, Key(set, epoch, "chunk"))(place / chunk) * chunk + place % chunk;
  }
  return {set_index, epoch, set.layout.ToSequential(canonical)};
}

uint64_t SampleOrder::MainPlace(const Set& set, uint64_t epoch, uint64_t lane, uint64_t row,
                                uint64_t substitute, WindowMemo* memo) const {
  const uint64_t chunk = set.layout.chunk();
  const uint64_t m = set.chunks_per_lane;
  const auto window = static_cast<uint64_t>(options_.window);
  // nw windows of nearly equal size: window k holds the lane's chunks [c0, c0 + w).
  const uint64_t num_windows = (m + window - 1) / window;
  const uint64_t k = ((row / chunk + 1) * num_windows - 1) / m;
  const uint64_t c0 = k * m / num_windows;
  const uint64_t w = (k + 1) * m / num_windows - c0;
  const uint64_t j = (row - c0 * chunk + substitute) % (w * chunk);
  const uint64_t lane_key = HashCombine(Key(set, epoch, "lane"), lane);
  const uint64_t window_key = HashCombine(HashCombine(lane_key, k), Fnv1a64("c"));
  if (memo != nullptr && (memo->key != window_key || memo->places.size() != w)) {
    memo->key = window_key;
    Permutation(w, window_key).FillTable(&memo->places);
  }
  const uint64_t c = memo != nullptr ? memo->places[j % w] : Permutation(w, window_key)(j % w);
  const uint64_t i =
      Permutation(chunk, HashCombine(HashCombine(lane_key, c0 + c), Fnv1a64("i")))(j / w);
  return (lane * m + c0 + c) * chunk + i;
}

SampleOrder::Visit SampleOrder::VisitOf(const Set& set, uint64_t canonical, uint64_t epoch) const {
  const auto lanes = static_cast<uint64_t>(lanes_);
  const uint64_t total = set.layout.num_samples();
  const uint64_t chunk = set.layout.chunk();
  const uint64_t m = set.chunks_per_lane;
  const uint64_t main = lanes * m * chunk;
  const uint64_t start = epoch * total;
  uint64_t place = canonical / chunk;
  if (place < set.layout.num_chunks())
    place = Permutation(set.layout.num_chunks(), Key(set, epoch, "chunk")).Inverse(place);
  if (main == 0) return {start, start + total, -1};
  const uint64_t h = (lanes - epoch % lanes * (total % lanes) % lanes) % lanes;
  if (place >= lanes * m) return {start + h + main, start + total, -1};
  const auto window = static_cast<uint64_t>(options_.window);
  const uint64_t num_windows = (m + window - 1) / window;
  const uint64_t k = ((place % m + 1) * num_windows - 1) / m;
  const uint64_t first_row = k * m / num_windows * chunk;
  const uint64_t end_row = (k + 1) * m / num_windows * chunk;
  return {start + h + first_row * lanes, start + h + end_row * lanes,
          static_cast<int64_t>(place / m)};
}

int64_t SampleOrder::NextNeed(int set_index, uint64_t id, int64_t step,
                              const std::vector<bool>& of_slot) const {
  const Set& set = sets_[static_cast<size_t>(set_index)];
  const auto lanes = static_cast<uint64_t>(lanes_);
  const uint64_t now = mix_.CountBefore(set_index, step, 0) * lanes;
  const uint64_t later = mix_.CountBefore(set_index, step + kRateSteps, 0) * lanes;
  const double rate = std::max(static_cast<double>(later - now) / kRateSteps, 1e-9);
  const auto step_of = [&](uint64_t position) {
    const double steps = position <= now ? 0 : static_cast<double>(position - now) / rate;
    return step + static_cast<int64_t>(std::min(steps, 1e15));
  };
  const uint64_t canonical = set.layout.ToCanonical(id);
  const uint64_t epoch = now / set.layout.num_samples();
  for (uint64_t e = epoch; e < epoch + kEpochsAhead; ++e) {
    const Visit visit = VisitOf(set, canonical, e);
    if (visit.end <= now) continue;
    const int64_t lanes_per_slot = lanes_ / options_.slots;
    if (visit.lane >= 0 && !of_slot[static_cast<size_t>(visit.lane / lanes_per_slot)]) continue;
    return step_of(visit.begin);
  }
  return step_of((epoch + kEpochsAhead) * set.layout.num_samples());
}

}  // namespace weft
