#include "models/spec/layout_rules.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cluster/base/text.h"
#include "models/spec/encoder_layout.h"
#include "models/spec/tp_slice.h"

namespace weft {
namespace {

constexpr size_t kSuggestions = 3;

std::string Text(int64_t value) { return std::to_string(value); }

// More are never suggested.
constexpr int kMostRanksSearched = 4096;

// Of one layout's modes: degrees may differ from call to call.
class Rules {
 public:
  Rules(const ModelSpec& spec, int slots) : spec_(spec), slots_(slots) {}

  // A sentence for each rule on degrees that the layout breaks.
  std::vector<std::string> BrokenByDegrees(const Layout& layout) const {
    std::vector<std::string> broken;
    const auto blocks = static_cast<int64_t>(spec_.blocks.size());
    if (layout.dp() > slots_) {
      broken.push_back("layout.dp = " + Text(layout.dp()) + ": a step has only batch.slots = " +
                       Text(slots_) + " slots, and each data-parallel rank needs one");
    }
    if (layout.tp() > 1) {
      const std::string why = WhyNotSplit(layout);
      if (!why.empty()) broken.push_back("layout.tp = " + Text(layout.tp()) + ": " + why);
    }
    if (layout.sequence_parallel() && layout.tp() == 1) {
      broken.push_back(
          "layout.sequence_parallel = true: needs layout.tp > 1, ranks to split the rows over");
    }
    if (layout.shard_ranks() > 0 && layout.dp() % layout.shard_ranks() != 0) {
      broken.push_back("layout.dp = " + Text(layout.dp()) + ": cannot be split into groups of " +
                       "layout.shard_ranks = " + Text(layout.shard_ranks()) + " ranks");
    }
    if (int64_t{layout.pp()} * layout.virtual_stages() > blocks) {
      const std::string chunks = layout.virtual_stages() == 1
                                     ? ""
                                     : " with virtual_stages = " + Text(layout.virtual_stages());
      broken.push_back("layout.pp = " + Text(layout.pp()) + chunks + ": the " + Text(blocks) +
                       " blocks of " + spec_.family + " cannot be cut into " +
                       Text(int64_t{layout.pp()} * layout.virtual_stages()) + " stages");
    }
    return broken;
  }

  // Rules that no other degrees would help; each says what to write instead.
  std::vector<std::string> BrokenByModes(const Layout& layout) const {
    std::vector<std::string> broken;
    if (layout.virtual_stages() > 1 && layout.schedule() != INTERLEAVED_1F1B) {
      broken.push_back("layout.virtual_stages = " + Text(layout.virtual_stages()) + ": " +
                       PipelineSchedule_Name(layout.schedule()) +
                       " has one stage a rank; use virtual_stages: 1 or schedule: "
                       "INTERLEAVED_1F1B");
    }
    if (layout.gather() == GATHER_MICRO_BATCH && layout.zero_stage() != 3) {
      broken.push_back("layout.gather = GATHER_MICRO_BATCH: nothing is gathered with zero_stage " +
                       Text(layout.zero_stage()) + "; use zero_stage: 3 or gather: GATHER_STEP");
    }
    if (layout.encoder() == ENCODER_DEAL && spec_.encoder.empty()) {
      broken.push_back("layout.encoder = ENCODER_DEAL: " + spec_.family +
                       " has no image encoder whose images could be dealt; use encoder: "
                       "ENCODER_FOLLOW");
    }
    AppendRecompute(layout, &broken);
    return broken;
  }

 private:
  // "" if every parameter can be split over tp. Searches ask for the same tp again and again.
  const std::string& WhyNotSplit(const Layout& layout) const {
    const auto [entry, is_new] = why_not_split_.try_emplace(layout.tp());
    if (!is_new) return entry->second;
    ModelSpec placed = spec_;
    ApplyEncoderLayout(layout, &placed);
    for (const ParamSpec& param : placed.Params()) {
      const Status split = CheckTpSplit(param, layout.tp());
      if (!split.ok()) return entry->second = split.message();
    }
    return entry->second;
  }

  void AppendRecompute(const Layout& layout, std::vector<std::string>* broken) const {
    if (layout.recompute_blocks_size() > 0 && layout.recompute() == RECOMPUTE_OFF) {
      broken->push_back("layout.recompute_blocks = " + Quoted(layout.recompute_blocks(0)) +
                        ": nothing is recomputed with RECOMPUTE_OFF; use recompute: "
                        "RECOMPUTE_FULL or RECOMPUTE_SELECTIVE");
    }
    for (const std::string& pattern : layout.recompute_blocks()) {
      std::vector<std::string> names;
      for (const BlockSpec& block : spec_.blocks) names.push_back(block.name);
      const auto matches = [&](const std::string& name) { return GlobMatch(pattern, name); };
      if (std::any_of(names.begin(), names.end(), matches)) continue;
      broken->push_back("layout.recompute_blocks = " + Quoted(pattern) +
                        ": no block's name matches; the nearest is " +
                        Quoted(NearestName(pattern, names)));
    }
  }

  static std::string Quoted(const std::string& text) { return "\"" + text + "\""; }

  const ModelSpec& spec_;
  int slots_;
  mutable std::map<int, std::string> why_not_split_;
};

struct Candidate {
  // How far from what was asked for: doublings and halvings of the degrees, and changes of anything else.
  double distance = 0;
  std::string text;

  bool operator<(const Candidate& other) const {
    return std::pair(distance, text) < std::pair(other.distance, other.text);
  }
};

double Doublings(int from, int to) { return std::abs(std::log2(to) - std::log2(from)); }

// The layout with these degrees, and what else has to change for them.
Candidate MakeCandidate(const Layout& asked, int dp, int tp, int pp, int64_t blocks,
                        Layout* layout) {
  *layout = asked;
  layout->set_dp(dp);
  layout->set_tp(tp);
  layout->set_pp(pp);
  Candidate candidate;
  candidate.distance =
      Doublings(asked.dp(), dp) + Doublings(asked.tp(), tp) + Doublings(asked.pp(), pp);
  candidate.text = DegreesText(*layout);
  if (asked.sequence_parallel() && tp == 1) {
    layout->set_sequence_parallel(false);
    candidate.distance += 2;
    candidate.text += " without sequence_parallel";
  }
  if (asked.virtual_stages() > 1 && int64_t{pp} * asked.virtual_stages() > blocks) {
    layout->set_virtual_stages(1);
    candidate.distance += 1;
    candidate.text += " with virtual_stages 1";
  }
  return candidate;
}

// Those with exactly `ranks` ranks, the nearest first.
std::set<Candidate> LayoutsThatWork(const Rules& rules, const Layout& asked, int ranks,
                                    int64_t blocks) {
  std::set<Candidate> found;
  for (int dp = 1; dp <= ranks; ++dp) {
    if (ranks % dp != 0) continue;
    for (int tp = 1; tp <= ranks / dp; ++tp) {
      if (ranks / dp % tp != 0) continue;
      Layout layout;
      const Candidate candidate = MakeCandidate(asked, dp, tp, ranks / dp / tp, blocks, &layout);
      if (rules.BrokenByDegrees(layout).empty()) found.insert(candidate);
    }
  }
  return found;
}

// "with 6 ranks dp 3 x tp 2 or dp 6 works; with 5 ranks ..."; "" if nothing was found.
std::string NearestLayouts(const Rules& rules, const Layout& asked, int64_t blocks) {
  const int64_t asked_ranks = int64_t{asked.dp()} * asked.tp() * asked.pp();
  const int most = static_cast<int>(std::min<int64_t>(asked_ranks, kMostRanksSearched));
  for (int ranks = most; ranks >= 1; --ranks) {
    const std::set<Candidate> found = LayoutsThatWork(rules, asked, ranks, blocks);
    if (found.empty()) continue;
    std::vector<std::string> texts;
    for (const Candidate& candidate : found) {
      if (texts.size() < kSuggestions) texts.push_back(candidate.text);
    }
    const std::string works = texts.size() == 1 ? " works" : " work";
    std::string list = texts.back();
    texts.pop_back();
    if (!texts.empty()) list = Join(texts, ", ") + " and " + list;
    return "with " + Text(ranks) + (ranks == 1 ? " rank " : " ranks ") + list + works;
  }
  return "";
}

}  // namespace

std::string DegreesText(const Layout& layout) {
  std::vector<std::string> degrees;
  for (const auto& [name, degree] :
       {std::pair{"dp ", layout.dp()}, {"tp ", layout.tp()}, {"pp ", layout.pp()}}) {
    if (degree > 1) degrees.push_back(name + Text(degree));
  }
  return degrees.empty() ? "dp 1" : Join(degrees, " x ");
}

Status CheckLayoutFits(const Recipe& recipe, const ModelSpec& spec) {
  const Layout& layout = recipe.layout();
  const auto blocks = static_cast<int64_t>(spec.blocks.size());
  const Rules rules(spec, recipe.batch().slots());
  std::vector<std::string> broken = rules.BrokenByDegrees(layout);
  if (!broken.empty()) {
    const std::string nearest = NearestLayouts(rules, layout, blocks);
    if (!nearest.empty()) broken.back() += "; " + nearest;
  }
  for (std::string& rule : rules.BrokenByModes(layout)) broken.push_back(std::move(rule));
  if (broken.empty()) return OkStatus();
  return InvalidArgument(Join(broken, "\n"));
}

}  // namespace weft
