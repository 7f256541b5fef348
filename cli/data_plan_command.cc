#include "cli/data_plan_command.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>

#include "cli/flags.h"
#include "cluster/base/clock.h"
#include "cluster/base/text.h"
#include "cluster/config/recipe_loader.h"
#include "dataloader/conversation_packs.h"
#include "dataloader/conversation_set.h"
#include "dataloader/data_plan.h"
#include "dataloader/data_set.h"
#include "dataloader/image_decode.h"
#include "dataloader/recipe_options.h"
#include "dataloader/sample_mix.h"
#include "dataloader/sample_source.h"

namespace weft {
namespace {

// Positions that are walked where --steps does not say how many.
constexpr int64_t kMaxPositions = 5'000'000;
// Pictures that are decoded to learn what one costs.
constexpr int64_t kDecoded = 64;

struct PlanFlags {
  int64_t nodes = 1;
  int64_t steps = 0;
  double rate = 0;
  std::vector<std::string> overrides;
};

// The sets of a recipe. Only packed conversations need vocabulary and model: their tables are made where they are not there.
struct PlannedSets {
  std::vector<std::unique_ptr<DataSet>> sets;
  // Of packed conversations, else empty: a row is then the sample.
  std::vector<ConversationPacks> packs;
  std::vector<OrderedSet> ordered;
  std::vector<uint64_t> samples;
};

StatusOr<PlannedSets> OpenSets(const LoaderOptions& options) {
  PlannedSets planned;
  for (int i = 0; i < std::max(1, options.data.sets_size()); ++i) {
    const LoaderOptions own = options.data.sets_size() > 0 ? OptionsOfSet(options, i) : options;
    if (own.pictures > 0) {
      WEFT_ASSIGN_OR_RETURN(ConversationSet set, ConversationSet::Open(own, SampleUse::kTrain));
      WEFT_ASSIGN_OR_RETURN(ConversationPacks packs, ConversationPacks::Open(set));
      planned.ordered.push_back({own.set_name, packs.ShardSizes()});
      planned.samples.push_back(static_cast<uint64_t>(packs.num_packs()));
      planned.packs.push_back(std::move(packs));
      planned.sets.push_back(std::move(set.set));
      continue;
    }
    WEFT_ASSIGN_OR_RETURN(std::unique_ptr<DataSet> set,
                          DataSet::Open(ShardPatterns(own, SampleUse::kTrain), own.set_field));
    planned.ordered.push_back({own.set_name, set->ShardSizes()});
    planned.samples.push_back(static_cast<uint64_t>(set->num_samples()));
    planned.sets.push_back(std::move(set));
  }
  return planned;
}

// Chunks of C neighbours in a shard, as fetches take them.
class Chunks {
 public:
  Chunks(const PlannedSets& sets, int64_t chunk) : sets_(sets), chunk_(chunk) {}

  StatusOr<PlannedChunk> Of(const SampleRef& ref, uint64_t* sample_bytes) const {
    if (!sets_.packs.empty()) return OfRow(ref, sample_bytes);
    const DataSet& set = *sets_.sets[static_cast<size_t>(ref.set)];
    const DataSet::Place place = set.PlaceOf(static_cast<int64_t>(ref.id));
    *sample_bytes = place.bytes;
    const int64_t first = place.index / chunk_ * chunk_;
    return PlannedChunk{IdOf(place.shard, first), set.BytesOf(place.shard, first, first + chunk_)};
  }

 private:
  static uint64_t IdOf(int64_t shard, int64_t first) {
    return static_cast<uint64_t>(shard) << 32 | static_cast<uint64_t>(first);
  }

  // A chunk of rows is the conversations in them.
  PlannedChunk OfRow(const SampleRef& ref, uint64_t* sample_bytes) const {
    const ConversationPacks& packs = sets_.packs[static_cast<size_t>(ref.set)];
    const auto id = static_cast<int64_t>(ref.id);
    const ConversationPacks::View row = packs.Find(id);
    *sample_bytes = BytesOfRow(ref.set, row);
    const int64_t first = row.number / chunk_ * chunk_;
    PlannedChunk chunk = {IdOf(row.shard, first), 0};
    for (int64_t number = first; number < first + chunk_; ++number) {
      const int64_t other = id - row.number + number;
      if (other >= packs.num_packs()) break;
      const ConversationPacks::View view = packs.Find(other);
      if (view.shard == row.shard) chunk.bytes += BytesOfRow(ref.set, view);
    }
    return chunk;
  }

  uint64_t BytesOfRow(int set, const ConversationPacks::View& row) const {
    uint64_t bytes = 0;
    for (const PackMember& member : row.members) {
      const int64_t id = row.first_id + member.sample;
      bytes += sets_.sets[static_cast<size_t>(set)]->PlaceOf(id).bytes;
    }
    return bytes;
  }

  const PlannedSets& sets_;
  const int64_t chunk_;
};

// Microseconds to decode a picture of the first set, on one core; 0: it has none.
double DecodeMicroseconds(const DataSet& set) {
  ImageDecoder decoder;
  Image image;
  double seconds = 0;
  int64_t decoded = 0;
  const int64_t stride = std::max<int64_t>(1, set.num_samples() / kDecoded);
  for (int64_t id = 0; id < set.num_samples() && decoded < kDecoded; id += stride) {
    const StatusOr<Sample> sample = set.Read(id);
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

void PrintRates(const DataPlan& plan, const PlanFlags& flags, double decode_us) {
  uint64_t bytes = 0;
  int64_t samples = 0;
  for (const NodePlan& node : plan.nodes) {
    bytes += node.bytes;
    samples += node.samples;
  }
  std::printf("a picture decodes in %.0f us on one core here\n", decode_us);
  if (flags.rate <= 0) {
    std::printf("--rate SAMPLES_PER_SECOND says what the nodes must read and decode for it\n");
    return;
  }
  const double of_node = flags.rate / static_cast<double>(flags.nodes);
  std::printf("for %.0f samples/s: %.1f MB/s and %.1f cores of decoding a node\n", flags.rate,
              of_node * static_cast<double>(bytes) / static_cast<double>(samples) / 1e6,
              of_node * decode_us / 1e6);
}

void PrintPlan(const DataPlan& plan, const PlannedSets& sets, int64_t steps) {
  std::printf(
      "%lld steps from the first; a chunk is read once by a node and kept until its last "
      "sample\n\n",
      static_cast<long long>(steps));
  std::printf("%6s %12s %10s %12s %12s\n", "NODE", "SAMPLES", "READS", "BYTES", "PEAK CACHE");
  for (size_t node = 0; node < plan.nodes.size(); ++node) {
    const NodePlan& of = plan.nodes[node];
    std::printf("%6zu %12lld %10llu %12s %12s\n", node, static_cast<long long>(of.samples),
                static_cast<unsigned long long>(of.reads),
                HumanBytes(static_cast<double>(of.bytes)).c_str(),
                HumanBytes(static_cast<double>(of.peak_cache)).c_str());
  }
  std::printf("\nbytes read / bytes of samples: %.3f\n", plan.amplification);
  for (size_t set = 0; set < sets.ordered.size(); ++set) {
    std::printf("set %s: %llu samples, %.3f epochs\n", sets.ordered[set].name.c_str(),
                static_cast<unsigned long long>(sets.samples[set]), plan.epochs[set]);
    if (sets.packs.empty()) continue;
    const ConversationPacks& packs = sets.packs[set];
    std::printf("  rows of %lld conversations, %.1f %% full; %lld conversations are in no row\n",
                static_cast<long long>(packs.num_members()), 100 * packs.fill(),
                static_cast<long long>(packs.num_left_out()));
  }
}

Status Plan(PlanFlags flags, const std::string& path) {
  WEFT_ASSIGN_OR_RETURN(const LoadedRecipe loaded,
                        LoadRecipe({.path = path, .overrides = flags.overrides}));
  const Recipe& recipe = loaded.recipe;
  if (recipe.model().family_case() == ModelRecipe::kRoberta)
    return InvalidArgument(path +
                           ": its samples are blocks of text, which are packed from shards that "
                           "are read once; there is nothing to plan");
  WEFT_ASSIGN_OR_RETURN(const LoaderOptions options, LoaderOptionsOf(recipe));
  WEFT_ASSIGN_OR_RETURN(const PlannedSets sets, OpenSets(options));
  WEFT_ASSIGN_OR_RETURN(const SampleOrder order,
                        MakeOrder(recipe.data(), recipe.batch(), recipe.seed(), sets.ordered));
  const int64_t slots = recipe.batch().slots();
  const int64_t batch = order.rows_per_slot() * slots;
  if (flags.steps <= 0) {
    const uint64_t largest = *std::max_element(sets.samples.begin(), sets.samples.end());
    flags.steps = std::clamp<int64_t>((static_cast<int64_t>(largest) + batch - 1) / batch, 1,
                                      std::max<int64_t>(1, kMaxPositions / batch));
  }
  const Chunks chunks(sets, recipe.data().order().chunk());
  WEFT_ASSIGN_OR_RETURN(
      const DataPlan plan,
      PlanData(order, sets.samples, {flags.nodes, slots, flags.steps},
               [&chunks](const SampleRef& ref, uint64_t* bytes) { return chunks.Of(ref, bytes); }));
  PrintPlan(plan, sets, flags.steps);
  PrintRates(plan, flags, DecodeMicroseconds(*sets.sets[0]));
  return OkStatus();
}

}  // namespace

int DataPlanCommand(const std::vector<std::string>& args) {
  PlanFlags plan;
  FlagParser flags(
      "weft data plan", "RECIPE --nodes N [flags]",
      "Says from the order alone what each node will read and hold, and how often each set is "
      "passed.");
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
