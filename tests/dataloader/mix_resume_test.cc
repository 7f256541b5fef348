// Stops a mix of three data sets at every step and goes on with other numbers of ranks; compares what each slot gets with
// a run that was never stopped: sample ids and a CRC32C of all tensors.
//
// V = 24, L = 48, B = 240; sets of 1,500, 950 and 400 samples; two epochs of the largest; dealt by balance. Packed
// conversations, with pictures and without: some pictures are broken inside a row, some fill a row of their own (substitutes),
// some conversations do not parse (in no row). Then pictures with captions (some bad; captions in a JSON list), and blocks of
// text.
//
// `make bench-loader` stops at every step and writes loader-resume.json; `make test` stops at a few.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>
#include <utility>

#include "cluster/base/clock.h"
#include "cluster/base/hash.h"
#include "cluster/base/logging.h"
#include "dataloader/loader.h"
#include "dataloader/sample_mix.h"
#include "tests/dataloader/mix_world.h"
#include "tests/support/report.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kWorlds[] = {1, 2, 3, 4, 6, 8, 24};

struct Got {
  std::vector<int64_t> ids;
  uint32_t crc = 0;
  friend bool operator==(const Got&, const Got&) = default;
};
// By (step, slot, micro-batch).
using Digest = std::map<std::tuple<int64_t, int, int>, Got>;

// `world`: nullptr, or who looks into the micro-batches.
void Read(const LoaderOptions& options, int64_t first_step, int64_t end_step,
          const std::vector<int>& slots, Digest* digest, const MixWorld* world = nullptr) {
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
    if (world != nullptr) world->Check(*batch);
    (*loader)->Recycle(std::move(*batch));
  }
}

// Slots of a rank: neighbours, or dealt out in rounds.
std::vector<int> SlotsOf(int rank, int ranks, bool interleaved) {
  std::vector<int> own;
  for (int slot = 0; slot < kMixSlots; ++slot) {
    if ((interleaved ? slot % ranks : slot * ranks / kMixSlots) == rank) own.push_back(slot);
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
    for (int64_t slot = 0; slot < kMixSlots; ++slot) {
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
Json ListSubstitutes(const SampleOrder& order, const SampleMix& mix, const MixWorld& world,
                     int64_t steps, const Digest& straight) {
  Json substitutes = Json::array();
  for (int64_t step = 0; step < steps; ++step) {
    std::multiset<int64_t> wanted;
    std::multiset<int64_t> got;
    for (int64_t slot = 0; slot < kMixSlots; ++slot) {
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

Json Measure(const MixWorld& world, int64_t every) {
  const LoaderOptions& options = world.options();
  const auto mix = SampleMix::Open(options);
  WEFT_CHECK(mix.ok()) << mix.status();
  const auto order = MakeOrder(options.data, options.batch, options.seed, (*mix)->OrderedSets());
  WEFT_CHECK(order.ok()) << order.status();
  const Epochs epochs = ProveExactlyOnce(*order, **mix);
  const TimePoint start = Clock::now();
  Digest straight;
  Read(options, 0, epochs.steps, SlotsOf(0, 1, false), &straight, &world);
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
  Json figures = {{"samples_of_sets", sizes},
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
  figures.update(world.Figures());
  return figures;
}

void ExpectSame(const Json& figures, bool bad_samples, const std::string& report) {
  EXPECT_EQ(figures["resumed_runs_that_differ"], 0);
  EXPECT_GE(figures["whole_epochs_exactly_once"], 4);
  EXPECT_EQ(figures["steps_with_substitutes"].empty(), !bad_samples);
  testing::WriteReport(report, figures);
}

TEST(MixResume, PackedConversationsStoppedAnywhereOnAnyRanksGiveTheSameBytes) {
  const testing::TempDir dir;
  const Json figures = Measure(*MakePackedWorld(dir.path()), testing::WantsReports() ? 1 : 14);
  EXPECT_EQ(figures["samples_of_sets"], Json(kMixSizes));
  EXPECT_GT(figures["bad_samples"], 0);
  EXPECT_GT(figures["broken_pictures_in_rows"], figures["bad_samples"]);
  EXPECT_GT(figures["in_no_row"], 0);
  ExpectSame(figures, true, "loader-resume");
}

TEST(MixResume, PicturesStoppedAnywhereOnAnyRanksGiveTheSameBytes) {
  const testing::TempDir dir;
  const auto world = MakeSimpleWorld(dir.path(), SampleFamily::kImageText);
  ExpectSame(Measure(*world, testing::WantsReports() ? 1 : 11), true, "loader-resume-pictures");
}

TEST(MixResume, BlocksOfTextStoppedAnywhereOnAnyRanksGiveTheSameBytes) {
  const testing::TempDir dir;
  const auto world = MakeSimpleWorld(dir.path(), SampleFamily::kMaskedText);
  ExpectSame(Measure(*world, testing::WantsReports() ? 1 : 11), false, "loader-resume-text");
}

}  // namespace
}  // namespace weft
