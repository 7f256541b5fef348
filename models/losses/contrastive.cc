#include "models/losses/contrastive.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/sub.h>

#include <cmath>

namespace weft {
namespace {

// The logits of the slot's own pairs: a view.
at::Tensor Positives(const at::Tensor& logits, int64_t first_row) {
  return logits.diagonal(first_row);
}

// (softmax over this row + softmax over the other direction's rows - 2 delta) / 2N, in place of nothing: a new tensor.
at::Tensor LogitGrad(const at::Tensor& logits, const at::Tensor& own_lse,
                     const at::Tensor& other_lse_all, int64_t first_row) {
  at::Tensor grad = at::sub(logits, own_lse.unsqueeze(1)).exp_();
  grad.add_(at::sub(logits, other_lse_all.unsqueeze(0)).exp_());
  grad.diagonal(first_row).sub_(2);
  return grad.div_(2 * logits.size(1));
}

}  // namespace

ContrastiveJoin::ContrastiveJoin(JoinSpec spec, const ContrastiveOptions& options,
                                 ParameterStore* store)
    : JoinBlock(spec), options_(options), logit_scale_(store->Get(spec.params[0].name)) {}

ContrastiveJoin::Slot ContrastiveJoin::ReadSlot(const JoinContext& context, int slot) const {
  std::vector<at::Tensor> images;
  std::vector<at::Tensor> texts;
  for (int m = 0; m < context.micro_batches; ++m) {
    images.push_back(context.store->Get({options_.wave, options_.images, slot, m}));
    texts.push_back(context.store->Get({options_.wave, options_.texts, slot, m}));
  }
  Slot rows;
  rows.images = at::cat(images);
  rows.texts = at::cat(texts);
  rows.first_row = slot * rows.images.size(0);
  return rows;
}

void ContrastiveJoin::WriteGrad(JoinContext* context, int slot, const std::string& name,
                                const at::Tensor& grad) const {
  const int64_t b = grad.size(0) / context->micro_batches;
  for (int m = 0; m < context->micro_batches; ++m) {
    context->store->AddGrad({options_.wave, name, slot, m}, grad.narrow(0, m * b, b));
  }
}

void ContrastiveJoin::Begin() { logit_scale_now_ = logit_scale_->value.item<double>(); }

Status ContrastiveJoin::Run(JoinContext* context) {
  ParallelContext& parallel = *context->parallel;
  const std::vector<int>& own = parallel.slots();
  const auto own_count = static_cast<int64_t>(own.size());
  std::vector<Slot> slots;
  std::vector<at::Tensor> features;
  for (const int slot : own) {
    slots.push_back(ReadSlot(*context, slot));
    features.push_back(at::stack({slots.back().images, slots.back().texts}));
  }
  WEFT_ASSIGN_OR_RETURN(const at::Tensor all,
                        parallel.AllGatherSlots(at::stack(features), "features.gather"));
  const int64_t embed = all.size(3);
  const at::Tensor all_images = all.select(1, 0).reshape({-1, embed});  // [N, e]
  const at::Tensor all_texts = all.select(1, 1).reshape({-1, embed});
  const int64_t n_global = all_images.size(0);
  const double scale = std::exp(logit_scale_now_);

  // Per slot: log-sum-exps for the others, and what is summed in tree order: loss and correct rows.
  std::vector<at::Tensor> lses;
  std::vector<at::Tensor> sums;
  for (int64_t i = 0; i < own_count; ++i) {
    Slot& slot = slots[static_cast<size_t>(i)];
    slot.image_logits = at::mm(slot.images, all_texts.t()).mul_(scale);
    slot.text_logits = at::mm(slot.texts, all_images.t()).mul_(scale);
    slot.image_lse = at::logsumexp(slot.image_logits, {1});
    slot.text_lse = at::logsumexp(slot.text_logits, {1});
    lses.push_back(at::stack({slot.image_lse, slot.text_lse}));
    const auto sum = [](const at::Tensor& x) { return x.sum(at::kDouble); };
    const at::Tensor labels = at::arange(slot.first_row, slot.first_row + slot.images.size(0),
                                         slot.images.options().dtype(at::kLong));
    sums.push_back(at::stack({sum(slot.image_lse)
                                  .sub_(sum(Positives(slot.image_logits, slot.first_row)))
                                  .add_(sum(slot.text_lse))
                                  .sub_(sum(Positives(slot.text_logits, slot.first_row))),
                              sum(at::argmax(slot.image_logits, 1).eq(labels))}));
  }
  WEFT_ASSIGN_OR_RETURN(const at::Tensor all_lse,
                        parallel.AllGatherSlots(at::stack(lses), "lse.gather"));
  WEFT_ASSIGN_OR_RETURN(const at::Tensor all_sums,
                        parallel.AllGatherSlots(at::stack(sums), "loss.gather"));
  const at::Tensor all_image_lse = all_lse.select(1, 0).reshape({-1});
  const at::Tensor all_text_lse = all_lse.select(1, 1).reshape({-1});

  for (int64_t i = 0; i < own_count; ++i) {
    const Slot& slot = slots[static_cast<size_t>(i)];
    const int number = own[static_cast<size_t>(i)];
    const at::Tensor image_grad =
        LogitGrad(slot.image_logits, slot.image_lse, all_text_lse, slot.first_row);
    const at::Tensor text_grad =
        LogitGrad(slot.text_logits, slot.text_lse, all_image_lse, slot.first_row);
    WriteGrad(context, number, options_.images, at::mm(image_grad, all_texts).mul_(scale));
    WriteGrad(context, number, options_.texts, at::mm(text_grad, all_images).mul_(scale));
    // Each logit once: over the image rows. d logit / d logit_scale is the logit itself.
    context->param_grads.push_back(
        {logit_scale_, number, (image_grad * slot.image_logits).sum(at::kDouble)});
  }

  const double weight = LossWeight(LossScope::kGlobal, static_cast<double>(2 * n_global),
                                   parallel.num_slots(), context->micro_batches);
  context->report = [all_sums, weight, n_global, &parallel, logit_scale = logit_scale_now_](
                        std::vector<LossTerm>* terms, std::vector<Metric>* metrics) -> Status {
    WEFT_ASSIGN_OR_RETURN(const at::Tensor columns, parallel.ToHost(all_sums.t().contiguous()));
    const auto column = [&](int64_t c) {
      const auto rows = static_cast<size_t>(columns.size(1));
      return TreeSum({columns.const_data_ptr<double>() + c * columns.size(1), rows});
    };
    terms->push_back({"contrastive", weight * column(0)});
    metrics->push_back({"accuracy", column(1) / static_cast<double>(n_global)});
    metrics->push_back({"logit_scale", logit_scale});
    return OkStatus();
  };
  return OkStatus();
}

}  // namespace weft
