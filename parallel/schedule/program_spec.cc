#include "parallel/schedule/program_spec.h"

#include <string>

namespace weft {
namespace {

Status CheckAtLeastOne(const char* field, int value) {
  if (value >= 1) return OkStatus();
  return InvalidArgument(std::string(field) + ": " + std::to_string(value) +
                         " is less than 1; the nearest value is 1");
}

Status CheckPlaces(const ProgramSpec& spec) {
  WEFT_RETURN_IF_ERROR(CheckAtLeastOne("layout.pp", spec.ranks));
  WEFT_RETURN_IF_ERROR(CheckAtLeastOne("layout.virtual_stages", spec.chunks));
  WEFT_RETURN_IF_ERROR(CheckAtLeastOne("layout.dp", spec.dp));
  WEFT_RETURN_IF_ERROR(CheckAtLeastOne("batch.slots", spec.slots));
  WEFT_RETURN_IF_ERROR(CheckAtLeastOne("batch.micro_batches", spec.micro_batches_a_slot));
  if (spec.chunks > 1 && spec.schedule != INTERLEAVED_1F1B) {
    return InvalidArgument("layout.virtual_stages: " + std::to_string(spec.chunks) + ", but " +
                           PipelineSchedule_Name(spec.schedule) +
                           " has one stage a rank; use virtual_stages: 1 or schedule: "
                           "INTERLEAVED_1F1B");
  }
  if (spec.dp > spec.slots) {
    return InvalidArgument("layout.dp: " + std::to_string(spec.dp) +
                           " data-parallel ranks share batch.slots: " + std::to_string(spec.slots) +
                           ", and each needs one; the nearest value is " +
                           std::to_string(spec.slots));
  }
  if (spec.dp_rank < 0 || spec.dp_rank >= spec.dp) {
    return InvalidArgument("layout.dp: there is no rank " + std::to_string(spec.dp_rank) +
                           " among " + std::to_string(spec.dp));
  }
  if (spec.zero_stage < 1 || spec.zero_stage > 3) {
    return InvalidArgument("layout.zero_stage: " + std::to_string(spec.zero_stage) +
                           " is not 1, 2 or 3; the nearest value is " +
                           (spec.zero_stage < 1 ? "1" : "3"));
  }
  return OkStatus();
}

Status CheckPhases(const ProgramSpec& spec) {
  enum class Seen { kNothing, kForward, kAll };
  std::vector<Seen> waves;
  for (size_t i = 0; i < spec.phases.size(); ++i) {
    const PhaseSpec& phase = spec.phases[i];
    if (phase.join) continue;
    const std::string where = "objective: phase " + std::to_string(i) + ": ";
    if (phase.wave < 0) return InvalidArgument(where + "wave " + std::to_string(phase.wave));
    if (static_cast<size_t>(phase.wave) >= waves.size())
      waves.resize(static_cast<size_t>(phase.wave) + 1, Seen::kNothing);
    Seen& seen = waves[static_cast<size_t>(phase.wave)];
    const bool after_forward = phase.pass == PassKind::kBackward;
    if (after_forward && seen != Seen::kForward)
      return InvalidArgument(where + "a Backward needs one Forward of its wave before it");
    if (!after_forward && seen != Seen::kNothing)
      return InvalidArgument(where + "its wave has run before; give this run a wave of its own");
    seen = phase.pass == PassKind::kForward ? Seen::kForward : Seen::kAll;
  }
  return OkStatus();
}

Status CheckStages(const ProgramSpec& spec) {
  const auto check = [&](const std::string& what, int stage) {
    if (stage >= 0 && stage < spec.num_stages()) return OkStatus();
    return InvalidArgument(
        what + ": stage " + std::to_string(stage) +
        " is none of layout.pp * layout.virtual_stages = " + std::to_string(spec.num_stages()));
  };
  if (spec.first_backward_stage != spec.num_stages())
    WEFT_RETURN_IF_ERROR(check("first stage with a backward", spec.first_backward_stage));
  for (const auto& [owner, replica] : spec.ties) {
    WEFT_RETURN_IF_ERROR(check("owner of a tie", owner));
    WEFT_RETURN_IF_ERROR(check("replica of a tie", replica));
  }
  return OkStatus();
}

}  // namespace

bool ProgramSpec::RunsForward(int index) const {
  const PhaseSpec& phase = phases[static_cast<size_t>(index)];
  return !phase.join && (phase.pass != PassKind::kBackward || rerun_forward);
}

bool ProgramSpec::RunsBackward(int index) const {
  const PhaseSpec& phase = phases[static_cast<size_t>(index)];
  return !phase.join && phase.pass != PassKind::kForward;
}

bool ProgramSpec::RunsAnyBackward() const {
  for (size_t i = 0; i < phases.size(); ++i) {
    if (RunsBackward(static_cast<int>(i))) return true;
  }
  return false;
}

Status CheckProgramSpec(const ProgramSpec& spec) {
  WEFT_RETURN_IF_ERROR(CheckPlaces(spec));
  WEFT_RETURN_IF_ERROR(CheckPhases(spec));
  return CheckStages(spec);
}

}  // namespace weft
