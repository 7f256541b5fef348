// The language of schedules: what one pipeline rank does in one step, as a list. Generators write it, the verifier
// proves it, the engine interprets it.
//
// Stage s of p * v runs on pipeline rank s % p. A data-parallel rank numbers its own micro-batches 0, 1, ...: slot by
// slot. Thread rule: values.
#pragma once

#include <cstdint>
#include <vector>

namespace weft {

enum class ActionKind : uint8_t {
  // Run the stage's blocks on a micro-batch; and backward: both gradients, or those of inputs and weights apart.
  kForward,
  kBackward,
  kBackwardInput,
  kBackwardWeight,
  // To and from the neighbouring stage. Sends do not block and keep their order between two ranks; a receive blocks.
  kSendForward,
  kRecvForward,
  kSendBackward,
  kRecvBackward,
  // The gradients of the stage's parameters from the rank's own slot number `round` are complete.
  kSlotDone,
  // Start the exchange of the stage's gradients over dp.
  kReduce,
  // Parameters of the stage over dp (ZeRO 3).
  kGather,
  kRelease,
  // The join of the phase; on the last stage's rank.
  kJoin,
  // Exchange of a tied gradient with the other stage's rank.
  kTie,
};

struct Action {
  ActionKind kind = ActionKind::kForward;
  // Index into the objective's phases.
  int phase = 0;
  int stage = 0;
  // kForward ... kRecvBackward.
  int micro_batch = -1;
  // Pipeline rank at the other end: sends, receives, kTie.
  int peer = -1;
  // kSlotDone: own slot number. kReduce: round of the exchange; ZeRO 1 has one, after the last slot.
  int round = 0;

  bool operator==(const Action&) const = default;
};

// What one pipeline rank does in one step.
using RankProgram = std::vector<Action>;

}  // namespace weft
