// When everything in a step happens if computing and messages take given times: what a schedule is worth before it runs,
// and what a measured one is held against.
//
// A rank does one thing at a time. A message leaves when its send is reached and arrives `hop` seconds later, however many
// are on the way. Exchanges over dp take no time here. The ideal is the papers' idle time of a rank for equal stages, no
// hops, and at least p micro-batches; F, I, W are the costs of one of its stages and the two gradients:
//
//   GPipe, 1F1B         (p - 1) (F + I + W)     Narayanan et al. 2021, section 2.2: (p - 1) / m of the busy time
//   interleaved 1F1B    (p - 1) (F + I + W)     the same, of stages v times smaller; micro-batches a multiple of p
//   ZB-H1               (p - 1) (F + I - W)     Qi et al. 2023, table 2
//   forwards only       (p - 1) F               none if forwards of another phase follow: ranks start on them at once
//   backwards only      (p - 1) (I + W)         ZB-H1: (p - 1) I, as input gradients go upstream first
//
// The bubble is idle time as a fraction of all: for GPipe and 1F1B (p - 1) / (m + p - 1).
// Thread rule: pure functions.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "parallel/schedule/program.h"

namespace weft {

// Seconds of one micro-batch.
struct StageCosts {
  double forward = 0;
  double backward_input = 0;
  double backward_weight = 0;
};

struct StepCosts {
  // One a stage.
  std::vector<StageCosts> stages;
  double hop = 0;
  double join = 0;
};

// Something that takes time: a forward, a backward, a join.
struct TimelineEntry {
  Action action;
  double start = 0;
  double end = 0;
};

struct Timeline {
  // By pipeline rank, in order.
  std::vector<std::vector<TimelineEntry>> ranks;
  // Seconds; by pipeline rank.
  std::vector<double> busy;
  double makespan = 0;
  // 1 - busy / (ranks * makespan).
  double bubble = 0;
};

// Of entries that were simulated or measured, in seconds from a common start; they are shifted so that the first starts at 0.
Timeline MakeTimeline(std::vector<std::vector<TimelineEntry>> ranks);

// REQUIRES: VerifyProgram accepts the programs; a cost for each stage.
Timeline Simulate(const ProgramSpec& spec, std::span<const RankProgram> programs,
                  const StepCosts& costs);

// The ideal bubble of these phases if every stage costs `stage`.
double IdealBubble(const ProgramSpec& spec, const StageCosts& stage);

// One row a rank, `width` characters of time, for people:
//   step 10 s, a character 1 s, idle 10.0 %; 0-9 forward (micro-batch mod 10), a-j backward, A-J weight gradients,
//   | join, . idle
//   rank 0   01.aA2bBcC  90.0 %
//   rank 1   .0a1bA2cBC  90.0 %
// Where ranks have several stages, a second row says which of them is at work.
std::string DrawTimeline(const Timeline& timeline, int width);

}  // namespace weft
