#include "cli/data_plan_command.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <memory>
#include <utility>

#include "cli/flags.h"
#include "cli/planned_sets.h"
#include "cluster/base/clock.h"
#include "cluster/base/text.h"
#include "cluster/config/recipe_loader.h"
#include "dataloader/batch_dealer.h"
#include "dataloader/data_plan.h"
#include "dataloader/data_set.h"
#include "dataloader/image_decode.h"
#include "dataloader/loader.h"
#include "dataloader/recipe_options.h"
#include "dataloader/sample_mix.h"
#include "dataloader/sample_source.h"

namespace weft {
namespace {

// Positions that are walked where --steps does not say how many.
constexpr int64_t kMaxPositions = 5'000'000;
// Samples that are loaded to learn what one costs.
constexpr int64_t kMeasured = 64;

struct PlanFlags {
  int64_t nodes = 1;
  int64_t steps = 0;
  double rate = 0;
  std::vector<std::string> overrides;
};

struct PlannedSets {
  std::vector<std::unique_ptr<PlannedSet>> sets;
  std::vector<OrderedSet> ordered;
  std::vector<uint64_t> samples;
};

StatusOr<PlannedSets> OpenSets(const LoaderOptions& options) {
  PlannedSets planned;
  for (int i = 0; i < std::max(1, options.data.sets_size()); ++i) {
    const LoaderOptions own = options.data.sets_size() > 0 ? OptionsOfSet(options, i) : options;
    WEFT_ASSIGN_OR_RETURN(std::unique_ptr<PlannedSet> set, OpenPlannedSet(own));
    planned.ordered.push_back({own.set_name, set->ShardSizes()});
    planned.samples.push_back(static_cast<uint64_t>(set->num_samples()));
    planned.sets.push_back(std::move(set));
  }
  return planned;
}

// Microseconds to decode a picture of the set, on one core; 0: it has none.
double DecodeMicroseconds(const DataSet* set) {
  if (set == nullptr) return 0;
  ImageDecoder decoder;
  Image image;
  double seconds = 0;
  int64_t decoded = 0;
  const int64_t stride = std::max<int64_t>(1, set->num_samples() / kMeasured);
  for (int64_t id = 0; id < set->num_samples() && decoded < kMeasured; id += stride) {
    const StatusOr<Sample> sample = set->Read(id);
    if (!sample.ok()) continue;
    for (const Media& media : sample->media) {
      const TimePoint start = Clock::now();
      if (!decoder.Decode(media.bytes, 1, &image).ok()) continue;
      seconds += ToSeconds(Clock::now() - start);
      ++decoded;
    }
  }
  return decoded == 0 ? 0 : seconds * 1e6 / static_cast<double>(decoded);
}

// Microseconds of CPU that a loader takes for a sample, from its bytes to its tensors. Errors: the loader's.
StatusOr<double> LoaderMicroseconds(LoaderOptions options) {
  options.data.clear_cache_dir();
  options.data.set_loader_threads(1);
  options.slots = {0};
  const int64_t rows = options.batch.micro_batch_size();
  const int64_t micro_batches = options.batch.micro_batches();
  const int64_t measured = (kMeasured + rows - 1) / rows;
  options.end_step = (1 + measured + micro_batches - 1) / micro_batches;
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<Loader> loader, Loader::Open(options));
  const std::clock_t start = std::clock();
  for (int64_t i = 0; i < options.end_step * micro_batches; ++i) {
    WEFT_ASSIGN_OR_RETURN(MicroBatch batch, loader->Next());
    loader->Recycle(std::move(batch));
  }
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  return seconds * 1e6 / static_cast<double>(options.end_step * micro_batches * rows);
}

void PrintRates(const DataPlan& plan, const PlanFlags& flags, const LoaderOptions& options,
                const DataSet* pictures) {
  uint64_t bytes = 0;
  uint64_t reads = 0;
  int64_t samples = 0;
  for (const NodePlan& node : plan.nodes) {
    bytes += node.bytes;
    reads += node.reads;
    samples += node.samples;
  }
  const StatusOr<double> loader = LoaderMicroseconds(options);
  const double us = loader.ok() ? *loader : DecodeMicroseconds(pictures);
  if (loader.ok()) {
    std::printf("a sample takes %.0f us of one core here, from its bytes to its tensors\n", us);
  } else {
    std::printf("a picture decodes in %.0f us on one core here (no more was measured: %s)\n", us,
                loader.status().message().c_str());
  }
  if (flags.rate <= 0) {
    std::printf("--rate SAMPLES_PER_SECOND says what the nodes must read and decode for it\n");
    return;
  }
  const double of_node = flags.rate / static_cast<double>(flags.nodes);
  const auto per_sample = [&](uint64_t sum) {
    return static_cast<double>(sum) / static_cast<double>(samples);
  };
  std::printf("for %.0f samples/s: %.1f MB/s in %.1f reads/s and %.1f cores a node\n", flags.rate,
              of_node * per_sample(bytes) / 1e6, of_node * per_sample(reads), of_node * us / 1e6);
}

void PrintPlan(const DataPlan& plan, const PlannedSets& sets, int64_t steps) {
  std::printf(
      "%lld steps from the first; a chunk is read once an epoch by a node and kept until its last "
      "sample\n\n",
      static_cast<long long>(steps));
  std::printf("%6s %12s %10s %12s %12s %16s %12s\n", "NODE", "SAMPLES", "READS", "BYTES",
              "PEAK CACHE", "DIFFERENT CHUNKS", "THEIR BYTES");
  for (size_t node = 0; node < plan.nodes.size(); ++node) {
    const NodePlan& of = plan.nodes[node];
    std::printf("%6zu %12lld %10llu %12s %12s %16llu %12s\n", node,
                static_cast<long long>(of.samples), static_cast<unsigned long long>(of.reads),
                HumanBytes(static_cast<double>(of.bytes)).c_str(),
                HumanBytes(static_cast<double>(of.peak_cache)).c_str(),
                static_cast<unsigned long long>(of.chunks),
                HumanBytes(static_cast<double>(of.chunk_bytes)).c_str());
  }
  std::printf("\nbytes read / bytes of samples: %.3f\n", plan.amplification);
  for (size_t set = 0; set < sets.sets.size(); ++set) {
    std::printf("set %s: %llu samples, %.3f epochs\n%s", sets.ordered[set].name.c_str(),
                static_cast<unsigned long long>(sets.samples[set]), plan.epochs[set],
                sets.sets[set]->Note().c_str());
  }
}

// Whether the node's disk keeps what it read for the next epoch.
void PrintCache(const DataPlan& plan, const DataRecipe& data) {
  uint64_t most = 0;
  for (const NodePlan& node : plan.nodes) most = std::max(most, node.chunk_bytes);
  if (!data.has_cache_dir()) {
    std::printf("data.cache_dir is not set: a sample is read when it is needed\n");
    return;
  }
  const bool fits = most <= static_cast<uint64_t>(data.cache_bytes());
  std::printf("data.cache_bytes, %s, %s the %s of a node%s\n",
              HumanBytes(static_cast<double>(data.cache_bytes())).c_str(),
              fits ? "hold" : "do not hold", HumanBytes(static_cast<double>(most)).c_str(),
              fits ? ": each chunk is read once, whatever the epochs" : "");
}

// As loaders take the rows: dealt anew, where the recipe says so. That needs the samples' sources.
StatusOr<RowsOf> MakeRows(const LoaderOptions& options, const SampleOrder& order) {
  const bool dealt =
      options.data.balance().group() > 0 || options.data.batcher().group() != BatcherRecipe::NONE;
  if (!dealt) {
    return RowsOf([order](int64_t step, int64_t slot) -> StatusOr<std::vector<SampleRef>> {
      return order.Rows(step, slot);
    });
  }
  WEFT_ASSIGN_OR_RETURN(std::unique_ptr<SampleMix> opened, SampleMix::Open(options));
  const std::shared_ptr<SampleMix> mix = std::move(opened);
  const auto dealer =
      std::make_shared<BatchDealer>(options.data, options.batch, options.seed, order, mix.get());
  return RowsOf([mix, dealer, rows = order.rows_per_slot()](
                    int64_t step, int64_t slot) -> StatusOr<std::vector<SampleRef>> {
    std::vector<SampleRef> dealt_rows;
    for (int64_t row = 0; row < rows; ++row) {
      WEFT_ASSIGN_OR_RETURN(const SampleRef ref, dealer->At(step, slot, row, 0));
      dealt_rows.push_back(ref);
    }
    return dealt_rows;
  });
}

Status Plan(PlanFlags flags, const std::string& path) {
  WEFT_ASSIGN_OR_RETURN(const LoadedRecipe loaded,
                        LoadRecipe({.path = path, .overrides = flags.overrides}));
  const Recipe& recipe = loaded.recipe;
  WEFT_ASSIGN_OR_RETURN(const LoaderOptions options, LoaderOptionsOf(recipe));
  WEFT_ASSIGN_OR_RETURN(const PlannedSets sets, OpenSets(options));
  WEFT_ASSIGN_OR_RETURN(const SampleOrder order,
                        MakeOrder(recipe.data(), recipe.batch(), recipe.seed(), sets.ordered));
  WEFT_ASSIGN_OR_RETURN(const RowsOf rows_of, MakeRows(options, order));
  const int64_t batch = order.global_batch();
  if (flags.steps <= 0) {
    const uint64_t largest = *std::max_element(sets.samples.begin(), sets.samples.end());
    flags.steps = std::clamp<int64_t>((static_cast<int64_t>(largest) + batch - 1) / batch, 1,
                                      std::max<int64_t>(1, kMaxPositions / batch));
  }
  WEFT_ASSIGN_OR_RETURN(const DataPlan plan,
                        PlanData(rows_of, sets.samples, {flags.nodes, order.slots(), flags.steps},
                                 [&sets](const SampleRef& ref, uint64_t* bytes) {
                                   return sets.sets[static_cast<size_t>(ref.set)]->ChunkOf(
                                       static_cast<int64_t>(ref.id), bytes);
                                 }));
  PrintPlan(plan, sets, flags.steps);
  PrintCache(plan, recipe.data());
  PrintRates(plan, flags, options, sets.sets[0]->data_set());
  return OkStatus();
}

}  // namespace

int DataPlanCommand(const std::vector<std::string>& args) {
  PlanFlags plan;
  FlagParser flags(
      "weft data plan", "RECIPE --nodes N [flags]",
      "Says, without reading a sample, what each node will read and hold in the chunks that "
      "data.cache_dir has, and how\noften each set is passed: with mix, data.batcher and "
      "data.balance, for pictures, conversations and text. Then it loads\na few samples to say "
      "what "
      "one costs.");
  flags.Int("nodes", &plan.nodes, "nodes, each with a part of batch.slots");
  flags.Int("steps", &plan.steps,
            "steps to walk; 0: one pass over the largest set, at most 5 million samples");
  flags.Double("rate", &plan.rate, "samples a second of the whole run: says MB/s and cores a node");
  flags.Strings("set", &plan.overrides, "FIELD=VALUE in place of the recipe's, as in `weft train`");
  flags.Positional(1, 1);
  flags.Example("weft data plan recipes/clip/vit_b32.textproto --nodes 8 --rate 12000");
  const ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  const Status status = Plan(plan, parsed.positional[0]);
  return status.ok() ? 0 : ReportError("data plan", status);
}

}  // namespace weft
