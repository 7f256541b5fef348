#include "parallel/schedule/program.h"

#include <utility>

#include "parallel/schedule/compute_order.h"
#include "parallel/schedule/lowering.h"

namespace weft {

StatusOr<std::vector<RankProgram>> MakeProgram(const ProgramSpec& spec) {
  WEFT_RETURN_IF_ERROR(CheckProgramSpec(spec));
  std::vector<RankProgram> programs;
  for (int rank = 0; rank < spec.ranks; ++rank) {
    RankProgram order;
    for (int phase = 0; phase < static_cast<int>(spec.phases.size()); ++phase) {
      const int last_stage = spec.num_stages() - 1;
      if (spec.phases[static_cast<size_t>(phase)].join) {
        if (rank == spec.RankOfStage(last_stage))
          order.push_back({.kind = ActionKind::kJoin, .phase = phase, .stage = last_stage});
        continue;
      }
      const int most = spec.max_slots() * spec.micro_batches_a_slot;
      const RankProgram part = ComputeOrder(spec, phase, rank, most);
      order.insert(order.end(), part.begin(), part.end());
    }
    programs.push_back(AddCollectives(spec, rank, order));
    DropMissing(spec, &programs.back());
  }
  AddTransfers(spec, &programs);
  return programs;
}

}  // namespace weft
