#include "cli/data_order_command.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <utility>

#include "cli/flags.h"
#include "cluster/config/recipe_loader.h"
#include "dataloader/batch_dealer.h"
#include "dataloader/data_set.h"
#include "dataloader/order_proof.h"
#include "dataloader/recipe_options.h"
#include "dataloader/sample_mix.h"

namespace weft {
namespace {

// Steps that are walked behind the last one, so that lanes which are ahead of others are caught up with.
constexpr int64_t kMaxStepsBehind = 10000;
constexpr uint64_t kProvenEpochs = 2;

struct OrderFlags {
  // Of shards without a recipe.
  int64_t seed = 0;
  int64_t slots = 1;
  int64_t batch = 0;
  int64_t lanes = 0;
  int64_t chunk = 128;
  int64_t window = 16;
  // Of a recipe.
  std::vector<std::string> overrides;
  int64_t step = 0;
  int64_t steps = -1;
  int64_t slot = -1;
  int64_t row = -1;
  bool prove = false;
};

// Places of a run, and what stands there.
class Places {
 public:
  virtual ~Places() = default;
  virtual int64_t slots() const = 0;
  virtual int64_t rows() const = 0;
  virtual std::vector<OrderProof::Set> sets() const = 0;
  virtual StatusOr<SampleRef> At(int64_t step, int64_t slot, int64_t row) = 0;
  // As batches and log lines show it.
  virtual int64_t Id(const SampleRef& ref) const = 0;
  virtual std::string Describe(const SampleRef& ref) const = 0;
  // Steps of the run; 0: it has no end.
  virtual int64_t steps() const { return 0; }
  // Whether batches are of one kind.
  virtual bool grouped() const { return false; }
  virtual StatusOr<bool> HasPicture(const SampleRef&) const { return false; }
};

// Shards in the order alone.
class PlacesOfShards : public Places {
 public:
  static StatusOr<std::unique_ptr<Places>> Open(const OrderFlags& flags,
                                                const std::vector<std::string>& shards) {
    if (flags.batch < 1)
      return InvalidArgument("--batch is missing: rows of a step over all slots");
    WEFT_ASSIGN_OR_RETURN(std::unique_ptr<DataSet> set, DataSet::Open(shards, "SHARDS"));
    OrderOptions options;
    options.seed = static_cast<uint64_t>(flags.seed);
    options.slots = flags.slots;
    options.global_batch = flags.batch;
    options.lanes = flags.lanes;
    options.chunk = flags.chunk;
    options.window = flags.window;
    WEFT_ASSIGN_OR_RETURN(SampleOrder order,
                          SampleOrder::Create(options, {{"train", set->ShardSizes()}}));
    return std::unique_ptr<Places>(new PlacesOfShards(std::move(set), std::move(order)));
  }

  int64_t slots() const override { return order_.slots(); }
  int64_t rows() const override { return order_.rows_per_slot(); }
  std::vector<OrderProof::Set> sets() const override {
    return {{"train", static_cast<uint64_t>(set_->num_samples())}};
  }
  StatusOr<SampleRef> At(int64_t step, int64_t slot, int64_t row) override {
    return order_.At(step, slot, row);
  }
  int64_t Id(const SampleRef& ref) const override { return static_cast<int64_t>(ref.id); }
  std::string Describe(const SampleRef& ref) const override {
    return set_->Describe(static_cast<int64_t>(ref.id));
  }

 private:
  PlacesOfShards(std::unique_ptr<DataSet> set, SampleOrder order)
      : set_(std::move(set)), order_(std::move(order)) {}

  const std::unique_ptr<DataSet> set_;
  const SampleOrder order_;
};

// All that a recipe says: sets, mix, segments, batcher, balance.
class PlacesOfRecipe : public Places {
 public:
  static StatusOr<std::unique_ptr<Places>> Open(const OrderFlags& flags, const std::string& path) {
    WEFT_ASSIGN_OR_RETURN(const LoadedRecipe loaded,
                          LoadRecipe({.path = path, .overrides = flags.overrides}));
    WEFT_ASSIGN_OR_RETURN(LoaderOptions options, LoaderOptionsOf(loaded.recipe));
    WEFT_ASSIGN_OR_RETURN(std::unique_ptr<SampleMix> mix, SampleMix::Open(options));
    WEFT_ASSIGN_OR_RETURN(SampleOrder order,
                          MakeOrder(options.data, options.batch, options.seed, mix->OrderedSets()));
    return std::unique_ptr<Places>(
        new PlacesOfRecipe(loaded.recipe, std::move(mix), std::move(order)));
  }

  int64_t slots() const override { return recipe_.batch().slots(); }
  int64_t rows() const override { return rows_; }
  int64_t steps() const override { return recipe_.steps(); }
  std::vector<OrderProof::Set> sets() const override {
    std::vector<OrderProof::Set> sets;
    for (int i = 0; i < mix_->num_sets(); ++i)
      sets.push_back({mix_->set_name(i), static_cast<uint64_t>(mix_->source(i).num_samples())});
    return sets;
  }
  StatusOr<SampleRef> At(int64_t step, int64_t slot, int64_t row) override {
    return dealer_.At(step, slot, row, 0);
  }
  int64_t Id(const SampleRef& ref) const override { return mix_->Id(ref); }
  std::string Describe(const SampleRef& ref) const override {
    return mix_->source(ref.set).Describe(static_cast<int64_t>(ref.id));
  }
  bool grouped() const override { return recipe_.data().batcher().group() != BatcherRecipe::NONE; }
  StatusOr<bool> HasPicture(const SampleRef& ref) const override { return mix_->HasPicture(ref); }

 private:
  PlacesOfRecipe(const Recipe& recipe, std::unique_ptr<SampleMix> mix, SampleOrder order)
      : recipe_(recipe),
        mix_(std::move(mix)),
        rows_(order.rows_per_slot()),
        dealer_(recipe.data(), recipe.batch(), recipe.seed(), std::move(order), mix_.get()) {}

  const Recipe recipe_;
  const std::unique_ptr<SampleMix> mix_;
  const int64_t rows_;
  BatchDealer dealer_;
};

Status PrintOrder(const OrderFlags& flags, Places* places) {
  const std::vector<OrderProof::Set> sets = places->sets();
  std::printf("%8s %5s %5s %6s %12s  %-12s %s\n", "STEP", "SLOT", "ROW", "EPOCH", "SAMPLE", "SET",
              "WHERE");
  const int64_t steps = flags.steps < 0 ? 1 : flags.steps;
  for (int64_t step = flags.step; step < flags.step + steps; ++step) {
    for (int64_t slot = 0; slot < places->slots(); ++slot) {
      if (flags.slot >= 0 && slot != flags.slot) continue;
      for (int64_t row = 0; row < places->rows(); ++row) {
        if (flags.row >= 0 && row != flags.row) continue;
        WEFT_ASSIGN_OR_RETURN(const SampleRef ref, places->At(step, slot, row));
        std::printf("%8lld %5lld %5lld %6llu %12lld  %-12s %s\n", static_cast<long long>(step),
                    static_cast<long long>(slot), static_cast<long long>(row),
                    static_cast<unsigned long long>(ref.epoch),
                    static_cast<long long>(places->Id(ref)),
                    sets[static_cast<size_t>(ref.set)].name.c_str(), places->Describe(ref).c_str());
      }
    }
  }
  return OkStatus();
}

// Batches with pictures only, with none, with both.
using Kinds = std::array<int64_t, 3>;

Status AddStep(int64_t step, Places* places, OrderProof* proof, Kinds* kinds) {
  int64_t pictures = 0;
  for (int64_t slot = 0; slot < places->slots(); ++slot) {
    for (int64_t row = 0; row < places->rows(); ++row) {
      WEFT_ASSIGN_OR_RETURN(const SampleRef ref, places->At(step, slot, row));
      WEFT_RETURN_IF_ERROR(proof->Add(ref).WithContext("step " + std::to_string(step) + ", slot " +
                                                       std::to_string(slot) + ", row " +
                                                       std::to_string(row)));
      if (!places->grouped()) continue;
      WEFT_ASSIGN_OR_RETURN(const bool has, places->HasPicture(ref));
      pictures += has ? 1 : 0;
    }
  }
  ++(*kinds)[pictures == places->slots() * places->rows() ? 0 : pictures == 0 ? 1 : 2];
  return OkStatus();
}

void PrintProof(const OrderProof& proof) {
  for (size_t i = 0; i < proof.sets().size(); ++i) {
    const OrderProof::Epochs& epochs = proof.epochs(i);
    std::printf("set %s: ", proof.sets()[i].name.c_str());
    if (epochs.whole.empty()) {
      std::printf("no whole epoch");
    } else {
      std::printf("each of %llu samples comes exactly once in each of %zu epochs (%llu to %llu)",
                  static_cast<unsigned long long>(proof.sets()[i].samples), epochs.whole.size(),
                  static_cast<unsigned long long>(*epochs.whole.begin()),
                  static_cast<unsigned long long>(*epochs.whole.rbegin()));
    }
    for (const auto& [number, epoch] : epochs.open) {
      std::printf("; %llu of epoch %llu, none twice", static_cast<unsigned long long>(epoch.seen),
                  static_cast<unsigned long long>(number));
    }
    std::printf("\n");
  }
}

Status ProveExactlyOnce(const OrderFlags& flags, Places* places) {
  OrderProof proof(places->sets());
  Kinds kinds = {};
  int64_t step = flags.step;
  // Where nobody says how far: the run, or as far as each set has had its epochs.
  const int64_t end =
      flags.steps >= 0 ? flags.step + flags.steps : std::max(flags.step, places->steps());
  const auto goes_on = [&] {
    if (flags.steps >= 0) return step < end;
    return proof.LeastWhole() < kProvenEpochs && (places->steps() == 0 || step < end);
  };
  for (; goes_on(); ++step) WEFT_RETURN_IF_ERROR(AddStep(step, places, &proof, &kinds));
  const int64_t last = step + kMaxStepsBehind;
  if (flags.step == 0) {
    for (; proof.Overtaken() && step < last; ++step)
      WEFT_RETURN_IF_ERROR(AddStep(step, places, &proof, &kinds));
    WEFT_RETURN_IF_ERROR(proof.CheckNoneMissing());
  }
  std::printf("steps %lld to %lld, %lld samples:\n", static_cast<long long>(flags.step),
              static_cast<long long>(step - 1),
              static_cast<long long>((step - flags.step) * places->slots() * places->rows()));
  PrintProof(proof);
  if (places->grouped()) {
    std::printf("batches: %lld with pictures, %lld without, %lld mixed\n",
                static_cast<long long>(kinds[0]), static_cast<long long>(kinds[1]),
                static_cast<long long>(kinds[2]));
  }
  return OkStatus();
}

Status ShowOrder(const OrderFlags& flags, const std::vector<std::string>& what) {
  const bool recipe = what[0].ends_with(".textproto");
  if (recipe && what.size() > 1)
    return InvalidArgument("one recipe at a time: '" + what[1] + "' is too much");
  if (flags.step < 0) return InvalidArgument("--step must be at least 0");
  WEFT_ASSIGN_OR_RETURN(
      const std::unique_ptr<Places> places,
      recipe ? PlacesOfRecipe::Open(flags, what[0]) : PlacesOfShards::Open(flags, what));
  if (flags.slot >= places->slots() || flags.row >= places->rows()) {
    return InvalidArgument("--slot must be below " + std::to_string(places->slots()) +
                           ", --row below " + std::to_string(places->rows()));
  }
  return flags.prove ? ProveExactlyOnce(flags, places.get()) : PrintOrder(flags, places.get());
}

}  // namespace

int DataOrderCommand(const std::vector<std::string>& args) {
  OrderFlags order;
  FlagParser flags(
      "weft data order", "RECIPE.textproto|SHARD...|MANIFEST [flags]",
      "Prints which sample stands at which place of a run, or proves that each comes exactly once "
      "an epoch. Of a recipe\n"
      "that is what its loaders take: sets, mix and its segments, data.batcher and data.balance "
      "included. (A bad sample\n"
      "is replaced when it is met; the run's log says by which.) Of shards alone it is the order "
      "with --batch and the\nflags behind it.");
  flags.Strings("set", &order.overrides,
                "FIELD=VALUE in place of the recipe's, as in `weft train`");
  flags.Int("step", &order.step, "the first step");
  flags.Int("steps", &order.steps,
            "how many; -1: one, or with --prove the run, at most two epochs of each set");
  flags.Int("slot", &order.slot, "print this slot only; -1: all");
  flags.Int("row", &order.row, "print this row of a slot only; -1: all");
  flags.Bool("prove", &order.prove,
             "count instead: no sample twice in an epoch of its set; from step 0 on none missing");
  flags.Int("batch", &order.batch, "of shards: rows of a step over all slots");
  flags.Int("seed", &order.seed, "of shards: the recipe's seed");
  flags.Int("slots", &order.slots, "of shards: batch.slots");
  flags.Int("lanes", &order.lanes, "of shards: data.order.lanes; 0: Weft chooses");
  flags.Int("chunk", &order.chunk, "of shards: data.order.chunk");
  flags.Int("window", &order.window, "of shards: data.order.window");
  flags.Positional(1, SIZE_MAX);
  flags.Example("weft data order recipes/llava/stage2_7b.textproto --step 1000 --slot 3");
  flags.Example("weft data order recipes/llava/stage2_7b.textproto --prove");
  const ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  const Status status = ShowOrder(order, parsed.positional);
  return status.ok() ? 0 : ReportError("data order", status);
}

}  // namespace weft
