// Stops a mix of three data sets at every step and goes on with other numbers of ranks; compares what each slot gets with
// a run that was never stopped: sample ids and a CRC32C of all tensors.
//
// V = 24, L = 48, B = 240; sets of 1,500, 950 and 400 samples; two epochs of the largest. Once pictures with captions (some
// bad; captions in a JSON list), once blocks of text (packs of sentences), both dealt by balance.
//
// `make bench-loader` stops at every step and writes loader-resume.json; `make test` stops at a few.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "cluster/base/clock.h"
#include "cluster/base/file_system.h"
#include "cluster/base/hash.h"
#include "cluster/base/logging.h"
#include "dataloader/bpe_trainer.h"
#include "dataloader/loader.h"
#include "dataloader/sample_mix.h"
#include "tests/dataloader/test_images.h"
#include "tests/support/report.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kSlots = 24;
constexpr int kWorlds[] = {1, 2, 3, 4, 6, 8, 24};
constexpr int kSizes[] = {1500, 950, 400};

struct Got {
  std::vector<int64_t> ids;
  uint32_t crc = 0;
  friend bool operator==(const Got&, const Got&) = default;
};
// By (step, slot, micro-batch).
using Digest = std::map<std::tuple<int64_t, int, int>, Got>;

bool IsBad(int set, int i) { return i % 100 == 17 + 7 * set; }

// Of one family: its files and options.
class World {
 public:
  World(const std::string& dir, SampleFamily family) : dir_(dir) {
    const bool text = family == SampleFamily::kMaskedText;
    options_.family = family;
    options_.seed = 11;
    options_.batch.set_slots(kSlots);
    options_.batch.set_micro_batches(2);
    options_.batch.set_micro_batch_size(5);
    options_.image_size = 12;
    options_.context_length = text ? 24 : 16;
    options_.data.mutable_order()->set_lanes(48);
    options_.data.mutable_order()->set_chunk(8);
    options_.data.mutable_order()->set_window(4);
    options_.data.mutable_balance()->set_group(8);
    options_.data.mutable_balance()->set_attention(0.01);
    const BpeStyle style = text ? BpeStyle::kRoberta : BpeStyle::kClip;
    const auto vocabulary = BpeTrainer(style).Train(BpeFixedEntries(style));
    WEFT_CHECK(vocabulary.ok()) << vocabulary.status();
    options_.data.set_vocabulary(Write("vocab-" + Name(style) + ".txt", *vocabulary));
    for (int set = 0; set < 3; ++set) AddSet(set, text);
  }

  const LoaderOptions& options() const { return options_; }
  // Ids, counted over all sets.
  const std::set<int64_t>& bad() const { return bad_; }

 private:
  static std::string Name(BpeStyle style) { return style == BpeStyle::kClip ? "clip" : "roberta"; }

  std::string Write(const std::string& name, const std::string& bytes) const {
    WEFT_CHECK(WriteFileDurably(PosixFileSystem(), dir_ + "/" + name, bytes).ok());
    return dir_ + "/" + name;
  }

  void AddSet(int set, bool text) {
    DataSetRecipe* recipe = options_.data.add_sets();
    recipe->set_name("set-" + std::to_string(set));
    const std::string stem = "set-" + std::to_string(set) + (text ? "-text" : "-images");
    if (text) {
      recipe->add_shards(Write(stem + ".txt", Sentences(kSizes[set])));
      return;
    }
    auto samples = MakeSamples(set * 10000, kSizes[set], 20);
    for (int i = 0; i < kSizes[set]; ++i) {
      auto& members = samples[static_cast<size_t>(i)].second;
      members["json"] = R"({"captions": [")" + members["txt"] + R"(", "one of ours"]})";
      if (IsBad(set, i)) {
        members["jpg"].resize(static_cast<size_t>(i % 3 == 0 ? 20 : 150));
        bad_.insert(first_ + i);
      }
    }
    first_ += kSizes[set];
    const auto half = static_cast<std::ptrdiff_t>(samples.size() * 2 / 5);
    WriteShard(dir_ + "/" + stem + "-0.tar", {samples.begin(), samples.begin() + half});
    WriteShard(dir_ + "/" + stem + "-1.tar", {samples.begin() + half, samples.end()});
    recipe->add_shards(dir_ + "/" + stem + "-{0..1}.tar");
    if (set == 0) {
      recipe->set_text_extension("json");
      recipe->set_text_field("captions");
    }
  }

  // About as many blocks as `blocks`: sentences of 3 to 21 bytes, some documents.
  static std::string Sentences(int blocks) {
    std::string text;
    for (int i = 0; i < blocks * 2; ++i) {
      text += std::string(static_cast<size_t>(3 + i * 7 % 19), static_cast<char>('a' + i % 26));
      text += i % 9 == 8 ? "\n\n" : "\n";
    }
    return text;
  }

  const std::string dir_;
  LoaderOptions options_;
  int64_t first_ = 0;
  std::set<int64_t> bad_;
};

void Read(const LoaderOptions& options, int64_t first_step, int64_t end_step,
          const std::vector<int>& slots, Digest* digest) {
  if (first_step >= end_step) return;
  LoaderOptions own = options;
  own.first_step = first_step;
  own.end_step = end_step;
  own.slots = slots;
  auto loader = Loader::Open(own);
  WEFT_CHECK(loader.ok()) << loader.status();
  const int64_t count =
      (end_step - first_step) * static_cast<int64_t>(slots.size()) * own.batch.micro_batches();
  for (int64_t i = 0; i < count; ++i) {
    auto batch = (*loader)->Next();
    WEFT_CHECK(batch.ok()) << batch.status();
    uint32_t crc = Crc32c(batch->targets.data(), batch->targets.size() * 4);
    for (const Field& field : batch->fields)
      crc = Crc32c(field.bytes.data(), field.bytes.size(), crc);
    const bool fresh = digest
                           ->emplace(std::tuple{batch->step, batch->slot, batch->micro_batch},
                                     Got{batch->sample_ids, crc})
                           .second;
    WEFT_CHECK(fresh) << "a slot got a micro-batch twice";
    (*loader)->Recycle(std::move(*batch));
  }
}

// Slots of a rank: neighbours, or dealt out in rounds.
std::vector<int> SlotsOf(int rank, int ranks, bool interleaved) {
  std::vector<int> own;
  for (int slot = 0; slot < kSlots; ++slot) {
    if ((interleaved ? slot % ranks : slot * ranks / kSlots) == rank) own.push_back(slot);
  }
  return own;
}

struct Epochs {
  int64_t steps = 0;
  int64_t samples = 0;
  int64_t whole = 0;
};

// The steps of two epochs of the largest set; each sample at most once an epoch, exactly once in a whole one.
Epochs ProveExactlyOnce(const SampleOrder& order, const SampleMix& mix) {
  std::map<std::pair<int, uint64_t>, std::vector<int>> seen;
  Epochs epochs;
  const auto rows = order.rows_per_slot();
  for (bool done = false; !done; ++epochs.steps) {
    for (int64_t slot = 0; slot < kSlots; ++slot) {
      for (int64_t row = 0; row < rows; ++row, ++epochs.samples) {
        const SampleRef ref = order.At(epochs.steps, slot, row);
        auto& counts = seen[{ref.set, ref.epoch}];
        counts.resize(static_cast<size_t>(mix.source(ref.set).num_samples()));
        WEFT_CHECK(++counts[ref.id] == 1) << "sample " << ref.id << " comes twice in an epoch";
      }
    }
    const auto whole = [](const std::vector<int>& counts) {
      return !counts.empty() && std::count(counts.begin(), counts.end(), 0) == 0;
    };
    done = whole(seen[{0, 0}]) && whole(seen[{0, 1}]);
    epochs.whole = 0;
    for (const auto& [key, counts] : seen) epochs.whole += whole(counts) ? 1 : 0;
  }
  return epochs;
}

// Compares each step's ids with the order's: balance only changes places, and bad samples are replaced one for one.
Json ListSubstitutes(const SampleOrder& order, const SampleMix& mix, const World& world,
                     int64_t steps, const Digest& straight) {
  Json substitutes = Json::array();
  for (int64_t step = 0; step < steps; ++step) {
    std::multiset<int64_t> wanted;
    std::multiset<int64_t> got;
    for (int64_t slot = 0; slot < kSlots; ++slot) {
      for (int64_t row = 0; row < order.rows_per_slot(); ++row)
        wanted.insert(mix.Id(order.At(step, slot, row)));
    }
    for (auto at = straight.lower_bound({step, 0, 0});
         at != straight.end() && std::get<0>(at->first) == step; ++at)
      got.insert(at->second.ids.begin(), at->second.ids.end());
    std::vector<int64_t> bad;
    std::vector<int64_t> instead;
    std::set_difference(wanted.begin(), wanted.end(), got.begin(), got.end(),
                        std::back_inserter(bad));
    std::set_difference(got.begin(), got.end(), wanted.begin(), wanted.end(),
                        std::back_inserter(instead));
    WEFT_CHECK(bad.size() == instead.size()) << "step " << step << " lost samples";
    for (const int64_t id : wanted) {
      const bool is_bad = world.bad().count(id) > 0;
      WEFT_CHECK(is_bad == (std::count(bad.begin(), bad.end(), id) > 0))
          << "sample " << id << " of step " << step;
    }
    if (!bad.empty()) substitutes.push_back({{"step", step}, {"bad", bad}, {"instead", instead}});
  }
  return substitutes;
}

Json Measure(const World& world, int64_t every) {
  const LoaderOptions& options = world.options();
  const auto mix = SampleMix::Open(options);
  WEFT_CHECK(mix.ok()) << mix.status();
  const auto order = MakeOrder(options.data, options.batch, options.seed, (*mix)->OrderedSets());
  WEFT_CHECK(order.ok()) << order.status();
  const Epochs epochs = ProveExactlyOnce(*order, **mix);
  const TimePoint start = Clock::now();
  Digest straight;
  Read(options, 0, epochs.steps, SlotsOf(0, 1, false), &straight);
  int64_t stops = 0;
  int64_t different = 0;
  for (int64_t stop = 0; stop < epochs.steps; stop += every, ++stops) {
    for (const int ranks : kWorlds) {
      Digest resumed;
      for (int rank = 0; rank < ranks; ++rank)
        Read(options, stop, epochs.steps, SlotsOf(rank, ranks, stop % 2 == 0), &resumed);
      const Digest expected(straight.lower_bound({stop, 0, 0}), straight.end());
      different += resumed == expected ? 0 : 1;
    }
  }
  const Json substitutes = ListSubstitutes(*order, **mix, world, epochs.steps, straight);
  std::vector<int64_t> sizes;
  for (int set = 0; set < 3; ++set) sizes.push_back((*mix)->source(set).num_samples());
  return {{"samples_of_sets", sizes},
          {"steps", epochs.steps},
          {"samples", epochs.samples},
          {"whole_epochs_exactly_once", epochs.whole},
          {"stops", stops},
          {"worlds", kWorlds},
          {"resumed_runs", stops * static_cast<int64_t>(std::size(kWorlds))},
          {"resumed_runs_that_differ", different},
          {"bad_samples", world.bad().size()},
          {"steps_with_substitutes", substitutes},
          {"seconds", ToSeconds(Clock::now() - start)}};
}

class MixResume : public ::testing::TestWithParam<SampleFamily> {};

TEST_P(MixResume, StoppedAnywhereOnAnyRanksGivesTheSameBytes) {
  const testing::TempDir dir;
  const bool images = GetParam() == SampleFamily::kImageText;
  const Json figures = Measure(World(dir.path(), GetParam()), testing::WantsReports() ? 1 : 11);
  EXPECT_EQ(figures["resumed_runs_that_differ"], 0);
  EXPECT_GE(figures["whole_epochs_exactly_once"], 4);
  EXPECT_EQ(figures["steps_with_substitutes"].empty(), !images);
  testing::WriteReport(images ? "loader-resume" : "loader-resume-packs", figures);
}

INSTANTIATE_TEST_SUITE_P(Families, MixResume,
                         ::testing::Values(SampleFamily::kImageText, SampleFamily::kMaskedText));

}  // namespace
}  // namespace weft
