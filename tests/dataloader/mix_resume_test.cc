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
#include "cluster/base/file_system.h"
#include "cluster/base/hash.h"
#include "cluster/base/logging.h"
#include "dataloader/bpe_trainer.h"
#include "dataloader/bpe_vocabulary.h"
#include "dataloader/conversation_packs.h"
#include "dataloader/conversation_set.h"
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

std::string WriteFile(const std::string& path, const std::string& bytes) {
  WEFT_CHECK(WriteFileDurably(PosixFileSystem(), path, bytes).ok());
  return path;
}

LoaderOptions UsualOptions(SampleFamily family) {
  LoaderOptions options;
  options.family = family;
  options.seed = 11;
  options.batch.set_slots(kSlots);
  options.batch.set_micro_batches(2);
  options.batch.set_micro_batch_size(5);
  options.image_size = 12;
  options.data.mutable_order()->set_lanes(48);
  options.data.mutable_order()->set_chunk(8);
  options.data.mutable_order()->set_window(4);
  options.data.mutable_balance()->set_group(8);
  options.data.mutable_balance()->set_attention(0.01);
  return options;
}

// What Measure asks of a world, whatever its family.
class World {
 public:
  explicit World(LoaderOptions options) : options_(std::move(options)) {}
  virtual ~World() = default;

  const LoaderOptions& options() const { return options_; }
  // Ids of samples that are replaced, counted over all sets.
  const std::set<int64_t>& bad() const { return bad_; }
  // Looks into a micro-batch of the straight run.
  virtual void Check(const MicroBatch&) const {}
  virtual Json Figures() const { return Json::object(); }

 protected:
  LoaderOptions options_;
  std::set<int64_t> bad_;
};

// Pictures with captions, or blocks of text.
class SimpleWorld : public World {
 public:
  SimpleWorld(const std::string& dir, SampleFamily family)
      : World(UsualOptions(family)), dir_(dir) {
    const bool text = family == SampleFamily::kMaskedText;
    options_.context_length = text ? 24 : 16;
    const BpeStyle style = text ? BpeStyle::kRoberta : BpeStyle::kClip;
    const auto vocabulary = BpeTrainer(style).Train(BpeFixedEntries(style));
    WEFT_CHECK(vocabulary.ok()) << vocabulary.status();
    options_.data.set_vocabulary(Write("vocab-" + Name(style) + ".txt", *vocabulary));
    for (int set = 0; set < 3; ++set) AddSet(set, text);
  }

 private:
  static std::string Name(BpeStyle style) { return style == BpeStyle::kClip ? "clip" : "roberta"; }

  std::string Write(const std::string& name, const std::string& bytes) const {
    return WriteFile(dir_ + "/" + name, bytes);
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
  int64_t first_ = 0;
};

// Packed conversations; kSizes are numbers of rows. A conversation's answer begins with its number.
class PackedWorld : public World {
 public:
  explicit PackedWorld(const std::string& dir)
      : World(UsualOptions(SampleFamily::kConversation)), dir_(dir) {
    options_.patches = 4;
    options_.pictures = kPictures;
    options_.context_length = kRow;
    options_.data.mutable_conversation()->set_version(ConversationRecipe::V1);
    options_.data.mutable_conversation()->set_system("");
    options_.data.mutable_conversation()->set_pack(true);
    const auto vocabulary = BpeTrainer(BpeStyle::kLlava).Train(BpeFixedEntries(BpeStyle::kLlava));
    WEFT_CHECK(vocabulary.ok()) << vocabulary.status();
    options_.data.set_vocabulary(WriteFile(dir_ + "/vocab-llava.txt", *vocabulary));
    vocabulary_ = std::move(*BpeVocabulary::Load(options_.data.vocabulary(), 0, BpeStyle::kLlava));
    for (int set = 0; set < 3; ++set) AddSet(set);
  }

  // Each row holds exactly the conversations of its pack that can be used.
  void Check(const MicroBatch& batch) const override {
    auto& own = const_cast<MicroBatch&>(batch);
    for (size_t row = 0; row < batch.sample_ids.size(); ++row) {
      const auto& wanted = rows_.at(static_cast<size_t>(batch.sample_ids[row]));
      const int32_t* ids = own.Find("ids")->I32(row);
      const int32_t* segment_at = own.Find("segment_at")->I32(row);
      const int32_t* image_at = own.Find("image_at")->I32(row);
      std::vector<int> got;
      for (int begin = 0, end = 0; begin < kRow && ids[begin] != 0; begin = end) {
        std::vector<int> text;
        for (end = begin; end < kRow && segment_at[end] == begin; ++end) text.push_back(ids[end]);
        WEFT_CHECK_LT(begin, end);
        const std::string said = vocabulary_->Decode(text);
        got.push_back(std::atoi(said.c_str() + said.find("ASSISTANT:") + 11));
      }
      WEFT_CHECK(got == wanted) << "row " << batch.sample_ids[row] << " holds others";
      int seeing = 0;
      for (const int number : wanted) seeing += Seeing(number % kOfSet) ? 1 : 0;
      for (int p = 0; p < kPictures; ++p) WEFT_CHECK_EQ(image_at[p] >= 0, p < seeing);
    }
  }

  Json Figures() const override {
    return {{"conversations", conversations_},
            {"in_rows_exactly_once", in_rows_},
            {"in_no_row", conversations_ - in_rows_},
            {"broken_pictures_in_rows", broken_},
            {"rows_full", fill_}};
  }

 private:
  static constexpr int kRow = 96;
  static constexpr int kPictures = 2;
  static constexpr int kOfSet = 100000;
  static bool Seeing(int i) { return i % 3 != 2; }
  // Of conversation `i`: it does not parse; its picture is cut short.
  static bool Broken(int set, int i) { return i % 211 == 5 + set; }
  static bool Blind(int set, int i) { return Seeing(i) && IsBad(set, i); }

  static std::string Talk(int number, int length, bool seeing) {
    std::string answer = std::to_string(number);
    answer.resize(static_cast<size_t>(length), ' ');
    answer.back() = '.';
    return R"({"conversations": [{"from": "human", "value": ")" +
           std::string(seeing ? "<image>\\nWhat?" : "Hello?") +
           R"("}, {"from": "gpt", "value": ")" + answer + "\"}]}";
  }

  // The first `common` conversations share rows, the others have one each.
  std::vector<TestSample> Make(int set, int common, int count) const {
    auto samples = MakeSamples(set * kOfSet, count, 20);
    for (int i = 0; i < count; ++i) {
      auto& members = samples[static_cast<size_t>(i)].second;
      const int length = i < common ? 7 + i * i % 41 : kRow;
      members["json"] = Broken(set, i) ? "{" : Talk(set * kOfSet + i, length, Seeing(i));
      if (!Seeing(i)) members.erase("jpg");
      if (Blind(set, i)) members["jpg"].resize(static_cast<size_t>(i % 2 == 0 ? 20 : 150));
    }
    return samples;
  }

  void Write(int set, const std::vector<TestSample>& samples, size_t half) const {
    const auto middle = samples.begin() + static_cast<std::ptrdiff_t>(half);
    WriteShard(dir_ + "/set-" + std::to_string(set) + "-0.tar", {samples.begin(), middle});
    WriteShard(dir_ + "/set-" + std::to_string(set) + "-1.tar", {middle, samples.end()});
  }

  ConversationPacks Open(int set) const {
    const auto opened = ConversationSet::Open(OptionsOfSet(options_, set), SampleUse::kTrain);
    WEFT_CHECK(opened.ok()) << opened.status();
    auto packs = ConversationPacks::Open(*opened);
    WEFT_CHECK(packs.ok()) << packs.status();
    return std::move(*packs);
  }

  // Conversations that fill a row alone bring the set to kSizes[set] rows.
  void AddSet(int set) {
    DataSetRecipe* recipe = options_.data.add_sets();
    recipe->set_name("set-" + std::to_string(set));
    recipe->add_shards(dir_ + "/set-" + std::to_string(set) + "-{0..1}.tar");
    const int common = kSizes[set] * 4 / 3;
    const auto half = static_cast<size_t>(common) * 2 / 5;
    int count = common;
    Write(set, Make(set, common, count), half);
    int64_t rows = Open(set).num_packs();
    for (; rows < kSizes[set]; ++count) rows += Broken(set, count) ? 0 : 1;
    Write(set, Make(set, common, count), half);
    const ConversationPacks packs = Open(set);
    WEFT_CHECK_EQ(packs.num_packs(), kSizes[set]);
    WEFT_CHECK_GT(count, common + 20);
    ListRows(set, packs);
    conversations_ += count;
  }

  // Proves that each conversation is in one row at most.
  void ListRows(int set, const ConversationPacks& packs) {
    std::set<int64_t> seen;
    for (int64_t row = 0; row < packs.num_packs(); ++row) {
      const ConversationPacks::View view = packs.Find(row);
      std::vector<int> good;
      for (const PackMember& member : view.members) {
        const auto i = static_cast<int>(view.first_id + member.sample);
        WEFT_CHECK(seen.insert(i).second && !Broken(set, i)) << i;
        if (!Blind(set, i)) good.push_back(set * kOfSet + i);
        broken_ += Blind(set, i) ? 1 : 0;
      }
      if (good.empty()) bad_.insert(static_cast<int64_t>(rows_.size()));
      rows_.push_back(std::move(good));
    }
    WEFT_CHECK_EQ(static_cast<int64_t>(seen.size()), packs.num_members());
    in_rows_ += packs.num_members();
    fill_.push_back(packs.fill());
  }

  const std::string dir_;
  std::unique_ptr<BpeVocabulary> vocabulary_;
  // Of each row of all sets: the conversations that a batch holds.
  std::vector<std::vector<int>> rows_;
  int64_t conversations_ = 0;
  int64_t in_rows_ = 0;
  int64_t broken_ = 0;
  std::vector<double> fill_;
};

// `world`: nullptr, or who looks into the micro-batches.
void Read(const LoaderOptions& options, int64_t first_step, int64_t end_step,
          const std::vector<int>& slots, Digest* digest, const World* world = nullptr) {
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
  const Json figures = Measure(PackedWorld(dir.path()), testing::WantsReports() ? 1 : 14);
  EXPECT_EQ(figures["samples_of_sets"], Json(kSizes));
  EXPECT_GT(figures["bad_samples"], 0);
  EXPECT_GT(figures["broken_pictures_in_rows"], figures["bad_samples"]);
  EXPECT_GT(figures["in_no_row"], 0);
  ExpectSame(figures, true, "loader-resume");
}

TEST(MixResume, PicturesStoppedAnywhereOnAnyRanksGiveTheSameBytes) {
  const testing::TempDir dir;
  const SimpleWorld world(dir.path(), SampleFamily::kImageText);
  ExpectSame(Measure(world, testing::WantsReports() ? 1 : 11), true, "loader-resume-pictures");
}

TEST(MixResume, BlocksOfTextStoppedAnywhereOnAnyRanksGiveTheSameBytes) {
  const testing::TempDir dir;
  const SimpleWorld world(dir.path(), SampleFamily::kMaskedText);
  ExpectSame(Measure(world, testing::WantsReports() ? 1 : 11), false, "loader-resume-text");
}

}  // namespace
}  // namespace weft
