#include "dataloader/sample_mix.h"

#include <cmath>
#include <numeric>

#include "cluster/base/hash.h"

namespace weft {
namespace {

class MixCook : public SampleCook {
 public:
  void Add(std::unique_ptr<SampleCook> cook) { cooks_.push_back(std::move(cook)); }
  Status Cook(const SampleRef& ref, size_t row, MicroBatch* batch) override {
    return cooks_[static_cast<size_t>(ref.set)]->Cook(ref, row, batch);
  }

 private:
  std::vector<std::unique_ptr<SampleCook>> cooks_;
};

MixUnit UnitOf(MixRecipe::Unit unit) {
  switch (unit) {
    case MixRecipe::SAMPLE:
      return MixUnit::kSample;
    case MixRecipe::BATCH:
      return MixUnit::kBatch;
    case MixRecipe::COUNTS:
      return MixUnit::kCounts;
  }
  return MixUnit::kSample;
}

using Wide = unsigned __int128;

Wide CommonFactor(Wide a, Wide b) {
  while (b != 0) a = std::exchange(b, a % b);
  return a;
}

// As given, or from epochs: samples x thousandths, divided by what they have in common.
StatusOr<std::vector<uint64_t>> WeightsOf(const DataRecipe& data,
                                          const std::vector<OrderedSet>& sets) {
  if (data.sets(0).has_weight()) {
    std::vector<uint64_t> weights;
    for (const DataSetRecipe& set : data.sets())
      weights.push_back(static_cast<uint64_t>(set.weight()));
    return weights;
  }
  std::vector<Wide> wide;
  Wide common = 0;
  for (int i = 0; i < data.sets_size(); ++i) {
    const DataSetRecipe& set = data.sets(i);
    const std::vector<uint64_t>& shards = sets[static_cast<size_t>(i)].shard_sizes;
    const Wide size = std::accumulate(shards.begin(), shards.end(), uint64_t{0});
    const double epochs = set.has_epochs() ? set.epochs() : 1;
    wide.push_back(static_cast<Wide>(std::llround(epochs * 1000)) * size);
    common = CommonFactor(common, wide.back());
  }
  std::vector<uint64_t> weights;
  Wide sum = 0;
  for (const Wide weight : wide) {
    weights.push_back(static_cast<uint64_t>(weight / common));
    sum += weight / common;
  }
  if (sum >> 62 != 0)
    return InvalidArgument("data.sets: these epochs are too far apart for sets of these sizes");
  return weights;
}

}  // namespace

LoaderOptions OptionsOfSet(const LoaderOptions& options, int set) {
  const DataSetRecipe& recipe = options.data.sets(set);
  LoaderOptions own = options;
  own.data.clear_sets();
  *own.data.mutable_train_shards() = recipe.shards();
  if (recipe.has_text_extension()) own.data.set_text_extension(recipe.text_extension());
  own.set_name = recipe.name();
  own.set_field = "data.sets[" + std::to_string(set) + "].shards";
  own.text_field = recipe.text_field();
  return own;
}

StatusOr<std::unique_ptr<SampleMix>> SampleMix::Open(const LoaderOptions& options) {
  std::unique_ptr<SampleMix> mix(new SampleMix());
  const int sets = options.data.sets_size();
  std::string identity = "weft-mix 1\n";
  for (int i = 0; i < std::max(sets, 1); ++i) {
    const LoaderOptions own = sets == 0 ? options : OptionsOfSet(options, i);
    WEFT_ASSIGN_OR_RETURN(std::unique_ptr<SampleSource> source,
                          OpenSampleSource(own, SampleUse::kTrain));
    mix->names_.push_back(own.set_name);
    mix->first_id_.push_back(mix->first_id_.back() + source->num_samples());
    identity += own.set_name + " " + source->manifest_hash() + "\n";
    mix->sources_.push_back(std::move(source));
  }
  mix->manifest_hash_ = sets == 0 ? mix->sources_[0]->manifest_hash() : Sha256Hex(identity);
  return mix;
}

std::string SampleMix::Describe(const SampleRef& ref) const {
  const std::string sample = source(ref.set).Describe(static_cast<int64_t>(ref.id));
  return num_sets() == 1 ? sample : "data set " + set_name(ref.set) + ", " + sample;
}

std::unique_ptr<SampleCook> SampleMix::NewCook() const {
  if (num_sets() == 1) return sources_[0]->NewCook();
  auto cook = std::make_unique<MixCook>();
  for (const auto& source : sources_) cook->Add(source->NewCook());
  return cook;
}

std::vector<OrderedSet> SampleMix::OrderedSets() const {
  std::vector<OrderedSet> sets;
  for (int i = 0; i < num_sets(); ++i) sets.push_back({set_name(i), source(i).ShardSizes()});
  return sets;
}

StatusOr<SampleOrder> MakeOrder(const DataRecipe& data, const BatchRecipe& batch, uint64_t seed,
                                std::vector<OrderedSet> sets) {
  OrderOptions options;
  options.seed = seed;
  options.slots = batch.slots();
  options.global_batch = int64_t{batch.slots()} * batch.micro_batches() * batch.micro_batch_size();
  options.lanes = data.order().lanes();
  options.chunk = data.order().chunk();
  options.window = data.order().window();
  if (data.sets_size() == 0) return SampleOrder::Create(options, std::move(sets));
  options.mix.unit = UnitOf(data.mix().unit());
  WEFT_ASSIGN_OR_RETURN(std::vector<uint64_t> weights, WeightsOf(data, sets));
  options.mix.segments.push_back({0, std::move(weights)});
  for (const MixSegment& segment : data.mix().segments()) {
    options.mix.segments.push_back(
        {segment.from_step(), {segment.weights().begin(), segment.weights().end()}});
  }
  return SampleOrder::Create(options, std::move(sets));
}

}  // namespace weft
