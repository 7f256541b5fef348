#include "worker/batch_stream.h"

#include <ATen/ATen.h>

#include <utility>

#include "cluster/base/clock.h"
#include "cluster/base/logging.h"

namespace weft {
namespace {

template <typename T>
at::Tensor CopyOf(const std::vector<T>& values, at::IntArrayRef shape, at::ScalarType type) {
  auto* data = const_cast<T*>(values.data());  // from_blob reads only: the clone owns the copy
  return at::from_blob(data, shape, at::TensorOptions().dtype(type)).clone();
}

}  // namespace

NamedTensors ToTensors(const MicroBatch& batch, int image_size, int context_length) {
  const auto b = static_cast<int64_t>(batch.sample_ids.size());
  NamedTensors tensors;
  tensors["pixels"] = CopyOf(batch.pixels, {b, 3, image_size, image_size}, at::kByte);
  tensors["ids"] = CopyOf(batch.ids, {b, context_length}, at::kInt).to(at::kLong);
  tensors["eot"] = CopyOf(batch.eot, {b}, at::kInt).to(at::kLong);
  return tensors;
}

BatchStream::BatchStream(const LoaderOptions& options, std::unique_ptr<Loader> loader)
    : options_(options), loader_(std::move(loader)) {}

StatusOr<StepBatch> BatchStream::Next(int64_t step) {
  StepBatch batch;
  const int count = options_.num_slots * options_.batch.micro_batches();
  for (int i = 0; i < count; ++i) {
    const TimePoint before = Clock::now();
    WEFT_ASSIGN_OR_RETURN(const MicroBatch micro_batch, loader_->Next());
    batch.wait_s += ToSeconds(Clock::now() - before);
    WEFT_CHECK_EQ(micro_batch.step, step);
    WEFT_CHECK_EQ(micro_batch.slot, options_.first_slot + i / options_.batch.micro_batches());
    batch.samples += static_cast<int64_t>(micro_batch.sample_ids.size());
    batch.micro_batches.push_back(
        ToTensors(micro_batch, options_.image_size, options_.context_length));
  }
  return batch;
}

}  // namespace weft
