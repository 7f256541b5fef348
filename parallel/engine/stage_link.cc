#include "parallel/engine/stage_link.h"

#include <ATen/ops/empty.h>

#include <utility>

#include "parallel/engine/wave_plan.h"

namespace weft {

StageLink::Incoming& StageLink::Incoming::operator=(Incoming&& other) {
  Clear();
  context_ = other.context_;
  tensors_ = std::move(other.tensors_);
  works_ = std::move(other.works_);
  return *this;
}

// The tensors are written until the operations are done.
void StageLink::Incoming::Clear() {
  for (WorkPtr& work : works_) context_->Abandon(std::move(work));
  works_.clear();
}

StatusOr<NamedTensors> StageLink::Incoming::Take() {
  for (WorkPtr& work : works_) WEFT_RETURN_IF_ERROR(context_->Wait(std::move(work)));
  works_.clear();
  return std::move(tensors_);
}

StageLink::~StageLink() {
  for (Outgoing& outgoing : outgoing_) context_->Abandon(std::move(outgoing.work));
}

void StageLink::Send(int peer, const std::vector<ActivationSpec>& specs,
                     const NamedTensors& tensors, const std::string& name) {
  while (!outgoing_.empty() && outgoing_.front().work->Done()) outgoing_.pop_front();
  for (const ActivationSpec& spec : specs) {
    const at::Tensor tensor = tensors.at(spec.name).contiguous();
    outgoing_.push_back({tensor, context_->pp().Send(tensor.data_ptr(), tensor.nbytes(), peer,
                                                     context_->Op(name))});
  }
}

StageLink::Incoming StageLink::Recv(int peer, const std::vector<ActivationSpec>& specs,
                                    int64_t samples, at::ScalarType compute_type,
                                    at::ScalarType wide_type, const std::string& name) {
  Incoming incoming;
  incoming.context_ = context_;
  for (const ActivationSpec& spec : specs) {
    const at::Tensor tensor =
        at::empty(LocalActivationShape(spec, samples, *context_),
                  context_->device().Options(spec.wide ? wide_type : compute_type));
    incoming.works_.push_back(
        context_->pp().Recv(tensor.data_ptr(), tensor.nbytes(), peer, context_->Op(name)));
    incoming.tensors_[spec.name] = tensor;
  }
  return incoming;
}

StageLink::Incoming StageLink::Local(NamedTensors tensors) {
  Incoming incoming;
  incoming.tensors_ = std::move(tensors);
  return incoming;
}

Status StageLink::Flush() {
  Status first;
  for (Outgoing& outgoing : outgoing_) {
    const Status status = context_->Wait(std::move(outgoing.work));
    if (first.ok()) first = status;
  }
  outgoing_.clear();
  return first;
}

}  // namespace weft
