#include "parallel/schedule/simulate.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <set>
#include <utility>

#include "cluster/base/logging.h"
#include "cluster/base/text.h"

namespace weft {
namespace {

size_t Size(int n) { return static_cast<size_t>(n); }

double Seconds(const StepCosts& costs, const Action& action) {
  const StageCosts& stage = costs.stages[Size(action.stage)];
  switch (action.kind) {
    case ActionKind::kForward:
      return stage.forward;
    case ActionKind::kBackward:
      return stage.backward_input + stage.backward_weight;
    case ActionKind::kBackwardInput:
      return stage.backward_input;
    case ActionKind::kBackwardWeight:
      return stage.backward_weight;
    case ActionKind::kJoin:
      return costs.join;
    default:
      return 0;
  }
}

bool TakesTime(const Action& action) {
  return action.kind <= ActionKind::kBackwardWeight || action.kind == ActionKind::kJoin;
}

// The clocks of all ranks, and the messages on their way.
class Clockwork {
 public:
  Clockwork(const ProgramSpec& spec, std::span<const RankProgram> programs, const StepCosts& costs)
      : programs_(programs),
        costs_(costs),
        ranks_(Size(spec.ranks)),
        lanes_(ranks_.size() * ranks_.size()) {
    entries_.resize(ranks_.size());
  }

  Timeline Run() {
    // Every pass takes each rank to its next wait; a correct program goes on in each.
    bool done = false;
    while (!done) {
      done = true;
      bool moved = false;
      for (size_t rank = 0; rank < ranks_.size(); ++rank) {
        const RankProgram& program = programs_[rank];
        size_t& next = ranks_[rank].next;
        const size_t before = next;
        while (next < program.size() && Execute(rank, program[next])) ++next;
        moved = moved || next > before;
        done = done && next == program.size();
      }
      WEFT_CHECK(done || moved) << "a deadlock that VerifyProgram would have found";
    }
    return MakeTimeline(std::move(entries_));
  }

 private:
  struct RankState {
    size_t next = 0;
    double now = 0;
  };
  struct Lane {
    std::vector<double> arrivals;
    size_t received = 0;
  };

  // False: the message is not sent yet.
  bool Execute(size_t rank, const Action& action) {
    RankState& state = ranks_[rank];
    switch (action.kind) {
      case ActionKind::kSendForward:
      case ActionKind::kSendBackward:
        lanes_[Size(action.peer) * ranks_.size() + rank].arrivals.push_back(state.now + costs_.hop);
        return true;
      case ActionKind::kRecvForward:
      case ActionKind::kRecvBackward: {
        Lane& lane = lanes_[rank * ranks_.size() + Size(action.peer)];
        if (lane.received == lane.arrivals.size()) return false;
        state.now = std::max(state.now, lane.arrivals[lane.received++]);
        return true;
      }
      default:
        break;
    }
    if (!TakesTime(action)) return true;
    const double start = state.now;
    state.now += Seconds(costs_, action);
    entries_[rank].push_back({.action = action, .start = start, .end = state.now});
    return true;
  }

  std::span<const RankProgram> programs_;
  const StepCosts& costs_;
  std::vector<RankState> ranks_;
  // By receiver, sender.
  std::vector<Lane> lanes_;
  std::vector<std::vector<TimelineEntry>> entries_;
};

char Letter(const Action& action) {
  const int digit = action.micro_batch % 10;
  switch (action.kind) {
    case ActionKind::kForward:
      return static_cast<char>('0' + digit);
    case ActionKind::kBackward:
    case ActionKind::kBackwardInput:
      return static_cast<char>('a' + digit);
    case ActionKind::kBackwardWeight:
      return static_cast<char>('A' + digit);
    default:
      return '|';
  }
}

// Which entry is at work at the middle of each of `width` pieces of the step; null: none.
std::vector<const TimelineEntry*> Columns(const std::vector<TimelineEntry>& entries,
                                          double makespan, int width) {
  std::vector<const TimelineEntry*> columns(Size(width));
  size_t at = 0;
  for (int column = 0; column < width; ++column) {
    const double time = makespan * (column + 0.5) / width;
    while (at < entries.size() && entries[at].end <= time) ++at;
    if (at < entries.size() && entries[at].start <= time) columns[Size(column)] = &entries[at];
  }
  return columns;
}

// Stages of the rank, in order of their numbers.
std::vector<int> StagesOf(const std::vector<TimelineEntry>& entries) {
  std::set<int> stages;
  for (const TimelineEntry& entry : entries) stages.insert(entry.action.stage);
  return {stages.begin(), stages.end()};
}

// "12.0s", "3.5ms".
std::string Time(double seconds) {
  if (seconds >= 1 || seconds <= 0) return HumanSeconds(seconds);
  char text[32];
  std::snprintf(text, sizeof(text), "%.3gms", 1000 * seconds);
  return text;
}

std::string Percent(double fraction) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f %%", 100 * fraction);
  return text;
}

}  // namespace

Timeline Simulate(const ProgramSpec& spec, std::span<const RankProgram> programs,
                  const StepCosts& costs) {
  WEFT_CHECK_EQ(costs.stages.size(), Size(spec.num_stages())) << "costs of the stages";
  return Clockwork(spec, programs, costs).Run();
}

double IdealBubble(const ProgramSpec& spec, const StageCosts& stage) {
  const double backward = stage.backward_input + stage.backward_weight;
  const double units = static_cast<double>(spec.chunks) * spec.micro_batches();
  double busy = 0;
  // In units of p - 1.
  double idle = 0;
  // Of a phase of forwards, unless forwards follow.
  double drain = 0;
  for (int phase = 0; phase < static_cast<int>(spec.phases.size()); ++phase) {
    const bool runs_forward = spec.RunsForward(phase);
    const bool runs_backward = spec.RunsBackward(phase);
    if (runs_forward) {
      busy += units * stage.forward;
      drain = runs_backward ? 0 : stage.forward;
      idle += runs_backward ? stage.forward : 0;
    }
    if (!runs_backward) continue;
    busy += units * backward;
    if (spec.schedule != ZB_H1) {
      idle += backward;
    } else {
      idle += stage.backward_input - (runs_forward ? stage.backward_weight : 0);
    }
    idle += drain;
    drain = 0;
  }
  const double all_idle = (idle + drain) * (spec.ranks - 1);
  return busy + all_idle > 0 ? all_idle / (busy + all_idle) : 0;
}

Timeline MakeTimeline(std::vector<std::vector<TimelineEntry>> ranks) {
  double start = std::numeric_limits<double>::infinity();
  double end = 0;
  for (const auto& entries : ranks) {
    for (const TimelineEntry& entry : entries) {
      start = std::min(start, entry.start);
      end = std::max(end, entry.end);
    }
  }
  Timeline timeline;
  double all_busy = 0;
  for (auto& entries : ranks) {
    double busy = 0;
    for (TimelineEntry& entry : entries) {
      busy += entry.end - entry.start;
      entry.start -= start;
      entry.end -= start;
    }
    timeline.busy.push_back(busy);
    all_busy += busy;
  }
  timeline.makespan = std::max(0.0, end - start);
  const double all = timeline.makespan * static_cast<double>(ranks.size());
  timeline.bubble = all > 0 ? 1 - all_busy / all : 0;
  timeline.ranks = std::move(ranks);
  return timeline;
}

std::string DrawTimeline(const Timeline& timeline, int width) {
  std::string text = "step " + Time(timeline.makespan) + ", a character " +
                     Time(timeline.makespan / width) + ", idle " + Percent(timeline.bubble) +
                     "; 0-9 forward (micro-batch mod 10), a-j backward, A-J weight gradients, "
                     "| join, . idle\n";
  for (size_t rank = 0; rank < timeline.ranks.size(); ++rank) {
    const std::vector<TimelineEntry>& entries = timeline.ranks[rank];
    const std::vector<int> stages = StagesOf(entries);
    std::string row(Size(width), '.');
    std::string stage_row = row;
    const auto columns = Columns(entries, timeline.makespan, width);
    for (size_t i = 0; i < columns.size(); ++i) {
      if (columns[i] == nullptr) continue;
      const Action& action = columns[i]->action;
      const auto stage = std::lower_bound(stages.begin(), stages.end(), action.stage);
      row[i] = Letter(action);
      stage_row[i] = static_cast<char>('0' + (stage - stages.begin()) % 10);
    }
    char name[32];
    std::snprintf(name, sizeof(name), "rank %-3zu ", rank);
    const double busy = timeline.makespan > 0 ? timeline.busy[rank] / timeline.makespan : 0;
    text += name + row + "  " + Percent(busy) + "\n";
    if (stages.size() > 1) text += "   stage " + stage_row + "\n";
  }
  return text;
}

}  // namespace weft
