#include "worker/train_step.h"

#include <utility>

#include "parallel/data/grad_norm.h"
#include "parallel/optim/lr_schedule.h"

namespace weft {

StatusOr<StepResult> TrainStepOn(RankState* rank, int64_t step,
                                 std::span<const NamedTensors> micro_batches) {
  return TrainStepOn(
      rank, step,
      StepInputs(rank->parallel().device(), {micro_batches.begin(), micro_batches.end()}));
}

StatusOr<StepResult> TrainStepOn(RankState* rank, int64_t step, StepInputs inputs) {
  const Recipe& recipe = rank->recipe();
  StepResult result;

  // Forward, joins over all slots, backward; then the gradient summed over slots: this rank's shard of it.
  WEFT_ASSIGN_OR_RETURN(StepOutput output, rank->engine().RunStep(step, std::move(inputs)));
  GradientReducer& gradients = rank->gradients();
  WEFT_RETURN_IF_ERROR(gradients.Finish());
  result.loss = output.loss;
  result.metrics = std::move(output.metrics);

  WEFT_ASSIGN_OR_RETURN(result.grad_norm,
                        GradientNorm(rank->parameters(), gradients, &rank->parallel(), step));
  ClipGradients(rank->parameters(), gradients, result.grad_norm, recipe.optimizer().clip_norm());

  result.lr = LearningRate(recipe.optimizer(), recipe.schedule(), recipe.steps(), step);
  WEFT_RETURN_IF_ERROR(rank->optimizer().Step(result.lr, gradients));
  result.peer_wait_s = rank->parallel().TakeWaitSeconds();
  return result;
}

StatusOr<StepResult> TrainStep(Session* session, int64_t step) {
  // The micro-batches of this rank's slots.
  WEFT_ASSIGN_OR_RETURN(StepBatch batch, session->batches().Next(step));
  WEFT_ASSIGN_OR_RETURN(StepResult result,
                        TrainStepOn(&session->rank_state(), step, std::move(batch.inputs)));
  result.samples = batch.samples;
  result.data_wait_s = batch.wait_s;
  return result;
}

}  // namespace weft
