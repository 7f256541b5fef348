#include "worker/train_step.h"

#include <utility>

#include "parallel/data/grad_norm.h"
#include "parallel/optim/lr_schedule.h"

namespace weft {

StatusOr<StepResult> TrainStep(Session* session, int64_t step) {
  const Recipe& recipe = session->recipe();
  StepResult result;

  // The micro-batches of this rank's slots.
  WEFT_ASSIGN_OR_RETURN(const StepBatch batch, session->batches().Next(step));
  result.samples = batch.samples;
  result.data_wait_s = batch.wait_s;

  // Forward, joins over all slots, backward; then the gradient summed over slots: this rank's shard of it.
  WEFT_ASSIGN_OR_RETURN(StepOutput output, session->engine().RunStep(step, batch.micro_batches));
  GradientReducer& gradients = session->gradients();
  WEFT_RETURN_IF_ERROR(gradients.Exchange());
  result.loss = output.loss;
  result.metrics = std::move(output.metrics);

  WEFT_ASSIGN_OR_RETURN(result.grad_norm,
                        GradientNorm(session->parameters(), gradients, &session->parallel(), step));
  ClipGradients(session->parameters(), gradients, result.grad_norm, recipe.optimizer().clip_norm());

  result.lr = LearningRate(recipe.optimizer(), recipe.schedule(), recipe.steps(), step);
  WEFT_RETURN_IF_ERROR(session->optimizer().Step(result.lr, gradients));
  result.peer_wait_s = session->parallel().TakeWaitSeconds();
  return result;
}

}  // namespace weft
