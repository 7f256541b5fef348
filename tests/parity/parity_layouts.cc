#include "tests/parity/parity_layouts.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <set>

#include "cluster/base/philox.h"

namespace weft::testing {
namespace {

constexpr int kRanks = 8;
// dp, tp, sequence, pp, zero, schedule, recompute, keep_wave, placement, encoder, gather: indices into the values below.
constexpr int kFactors = 11;
using Choice = std::array<int, kFactors>;
constexpr std::array<int, kFactors> kValues = {4, 4, 2, 4, 3, 4, 3, 2, 2, 2, 2};
using Pair = std::array<int, 4>;  // factor, value, factor, value

ParityLayout LayoutOf(const Choice& choice) {
  ParityLayout result;
  Layout& layout = result.layout;
  layout.set_dp(1 << choice[0]);
  layout.set_tp(1 << choice[1]);
  layout.set_sequence_parallel(choice[2] == 1);
  layout.set_pp(1 << choice[3]);
  layout.set_zero_stage(1 + choice[4]);
  layout.set_schedule(static_cast<PipelineSchedule>(choice[5]));
  layout.set_virtual_stages(layout.schedule() == INTERLEAVED_1F1B ? 2 : 1);
  layout.set_recompute(static_cast<Recompute>(choice[6]));
  result.keep_wave = static_cast<KeepWave>(choice[7]);
  layout.set_placement(static_cast<Placement>(choice[8]));
  layout.set_encoder(static_cast<EncoderLayout>(choice[9]));
  layout.set_gather(static_cast<GatherMode>(choice[10]));
  return result;
}

bool IsValid(const ParityLayout& parity, int blocks, bool joins, bool encoder) {
  const Layout& layout = parity.layout;
  if (parity.ranks() > kRanks) return false;
  if (layout.sequence_parallel() && layout.tp() == 1) return false;
  if (layout.encoder() == ENCODER_DEAL && (layout.tp() == 1 || !encoder)) return false;
  if (parity.keep_wave == FEATURES && !joins) return false;
  if (layout.gather() == GATHER_MICRO_BATCH && (layout.zero_stage() != 3 || layout.pp() == 1))
    return false;
  return layout.pp() * layout.virtual_stages() <= blocks;
}

std::set<Pair> PairsOf(const Choice& choice) {
  std::set<Pair> pairs;
  for (int a = 0; a < kFactors; ++a) {
    for (int b = a + 1; b < kFactors; ++b) pairs.insert({a, choice[a], b, choice[b]});
  }
  return pairs;
}

std::vector<Choice> AllValid(int blocks, bool joins, bool encoder) {
  std::vector<Choice> all;
  int total = 1;
  for (const int values : kValues) total *= values;
  for (int i = 0; i < total; ++i) {
    Choice choice{};
    int rest = i;
    for (int f = 0; f < kFactors; ++f) {
      choice[f] = rest % kValues[f];
      rest /= kValues[f];
    }
    if (IsValid(LayoutOf(choice), blocks, joins, encoder)) all.push_back(choice);
  }
  return all;
}

// Of a few hundred candidates, drawn alike on every machine, the one with the most pairs that are not covered yet.
Choice BestOf(const std::vector<Choice>& all, const std::set<Pair>& open, uint64_t round) {
  const KeyedRandom random(3, "parity layouts", round);
  constexpr uint64_t kCandidates = 300;
  Choice best = all[0];
  size_t most = 0;
  for (uint64_t i = 0; i < kCandidates; ++i) {
    const Choice& choice = all[random.Below(all.size(), 0, i)];
    const std::set<Pair> pairs = PairsOf(choice);
    const auto covered = static_cast<size_t>(std::count_if(
        pairs.begin(), pairs.end(), [&](const Pair& pair) { return open.count(pair) > 0; }));
    if (i > 0 && covered <= most) continue;
    most = covered;
    best = choice;
  }
  return best;
}

std::string Lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

}  // namespace

std::string ParityLayout::Name() const {
  const Layout base;
  std::string name = "dp" + std::to_string(layout.dp()) + " tp" + std::to_string(layout.tp()) +
                     " pp" + std::to_string(layout.pp());
  if (layout.sequence_parallel()) name += " sp";
  if (layout.zero_stage() != 1) name += " zero" + std::to_string(layout.zero_stage());
  if (layout.shard_ranks() > 0) name += " shard" + std::to_string(layout.shard_ranks());
  if (layout.schedule() != base.schedule())
    name += " " + Lower(PipelineSchedule_Name(layout.schedule()));
  if (layout.recompute() != base.recompute())
    name += " " + Lower(Recompute_Name(layout.recompute())).substr(sizeof("recompute"));
  if (keep_wave == FEATURES) name += " features";
  if (layout.placement() == EVEN) name += " even";
  if (layout.encoder() == ENCODER_DEAL) name += " deal";
  if (layout.gather() == GATHER_MICRO_BATCH) name += " gather-mb";
  return name;
}

std::string ParityLayout::BitsKey() const { return BitsReference(*this).Name(); }

ParityLayout BitsReference(const ParityLayout& layout) {
  ParityLayout reference;
  reference.layout.set_tp(layout.layout.tp());
  reference.layout.set_sequence_parallel(layout.layout.sequence_parallel());
  reference.layout.set_encoder(layout.layout.encoder());
  return reference;
}

std::vector<ParityLayout> ParityLayouts(int blocks, bool joins, bool encoder, int least) {
  std::vector<ParityLayout> layouts;
  std::set<std::string> names;
  const auto add = [&](const ParityLayout& layout) {
    if (names.insert(layout.Name()).second) layouts.push_back(layout);
  };
  for (int dp = 1; dp <= kRanks; dp *= 2) {
    for (int tp = 1; dp * tp <= kRanks; tp *= 2) {
      for (int pp = 1; dp * tp * pp <= kRanks; pp *= 2) {
        ParityLayout layout;
        layout.layout.set_dp(dp);
        layout.layout.set_tp(tp);
        layout.layout.set_pp(pp);
        add(layout);
      }
    }
  }
  // Slots that the ranks cannot share evenly.
  for (const int dp : {3, 5, 7}) {
    ParityLayout layout;
    layout.layout.set_dp(dp);
    layout.layout.set_zero_stage(dp / 2);
    add(layout);
  }
  ParityLayout uneven;
  uneven.layout.set_dp(3);
  uneven.layout.set_pp(2);
  uneven.layout.set_zero_stage(3);
  uneven.layout.set_gather(GATHER_MICRO_BATCH);
  add(uneven);
  uneven.layout.set_gather(GATHER_STEP);
  add(uneven);
  // Copies of shards.
  for (const int zero : {1, 2, 3}) {
    ParityLayout hybrid;
    hybrid.layout.set_dp(4);
    hybrid.layout.set_shard_ranks(2);
    hybrid.layout.set_zero_stage(zero);
    if (zero == 3) hybrid.layout.set_tp(2);
    if (zero == 2) hybrid.layout.set_pp(2);
    add(hybrid);
  }
  const std::vector<Choice> all = AllValid(blocks, joins, encoder);
  std::set<Pair> open;
  for (const Choice& choice : all) open.merge(PairsOf(choice));
  for (uint64_t round = 0; !open.empty() || layouts.size() < static_cast<size_t>(least); ++round) {
    Choice choice = BestOf(all, open, round);
    if (!open.empty() && PairsOf(choice).size() > 0) {
      // No candidate has an open pair: take any layout that has one.
      const auto covers = [&](const Choice& c) {
        for (const Pair& pair : PairsOf(c)) {
          if (open.count(pair) > 0) return true;
        }
        return false;
      };
      if (!covers(choice)) choice = *std::find_if(all.begin(), all.end(), covers);
    }
    for (const Pair& pair : PairsOf(choice)) open.erase(pair);
    add(LayoutOf(choice));
  }
  return layouts;
}

}  // namespace weft::testing
