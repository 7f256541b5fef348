#include "models/layers/attention.h"

#include <ATen/SDPBackend.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/_fused_sdp_choice.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/where.h>

#include <optional>
#include <tuple>

namespace weft {
namespace {

// [b, s]: a segment begins here.
at::Tensor Begins(const at::Tensor& segment_at) {
  const int64_t s = segment_at.size(1);
  const at::Tensor own = segment_at.eq(at::arange(s, segment_at.options()));
  // The next token is of the same one; the last has none.
  at::Tensor goes_on = at::full(segment_at.sizes(), false, own.options());
  goes_on.narrow(1, 0, s - 1)
      .copy_(segment_at.narrow(1, 0, s - 1).eq(segment_at.narrow(1, 1, s - 1)));
  at::Tensor begins = own.logical_and(goes_on);
  begins.select(1, 0).fill_(true);
  return begins;
}

}  // namespace

int64_t CountSegments(const at::Tensor& segment_at) {
  return Begins(segment_at).sum().item<int64_t>();
}

at::Tensor SegmentBounds(const at::Tensor& segment_at, int64_t segments) {
  const at::Tensor begins = Begins(segment_at).flatten();
  const at::TensorOptions numbers = begins.options().dtype(at::kLong);
  // What does not begin a segment goes to the last place, which is the end's anyway.
  const at::Tensor places = at::where(begins, begins.cumsum(0).sub_(1), segments);
  const at::Tensor values = at::where(begins, at::arange(begins.numel(), numbers), begins.numel());
  return at::full({segments + 1}, begins.numel(), numbers).scatter_(0, places, values).to(at::kInt);
}

bool FitsSegmentsFused(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  constexpr int64_t kWidthStep = 8;
  constexpr int64_t kMostWidth = 256;
  if (q.size(3) % kWidthStep != 0 || q.size(3) > kMostWidth) return false;
  const auto choice = static_cast<at::SDPBackend>(at::_fused_sdp_choice(
      q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), /*attn_mask=*/{}, /*dropout_p=*/0.0,
      /*is_causal=*/true, /*scale=*/std::nullopt, /*enable_gqa=*/q.size(2) != k.size(2)));
  return choice == at::SDPBackend::flash_attention || choice == at::SDPBackend::cudnn_attention;
}

at::Tensor AttendSegmentsFused(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const at::Tensor& segment_at, int64_t segments) {
  const at::Tensor bounds = SegmentBounds(segment_at, segments);
  const int64_t longest = q.size(1);
  const at::Tensor y = std::get<0>(at::_flash_attention_forward(
      q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), bounds, bounds, longest, longest,
      /*dropout_p=*/0.0, /*is_causal=*/true, /*return_debug_mask=*/false));
  return y.view(q.sizes());
}

}  // namespace weft
