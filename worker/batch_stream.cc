#include "worker/batch_stream.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>

#include <numeric>
#include <utility>

#include "cluster/base/clock.h"
#include "cluster/base/logging.h"

namespace weft {
namespace {

at::ScalarType ScalarTypeOf(FieldType type) {
  switch (type) {
    case FieldType::kU8:
      return at::kByte;
    case FieldType::kI32:
      return at::kInt;
    case FieldType::kF32:
      return at::kFloat;
    case FieldType::kBf16:
      break;
  }
  return at::kBFloat16;
}

}  // namespace

NamedTensors ToTensors(const MicroBatch& batch, const ComputeDevice& device) {
  NamedTensors tensors;
  for (const Field& field : batch.fields) {
    std::vector<int64_t> shape = {static_cast<int64_t>(batch.sample_ids.size())};
    shape.insert(shape.end(), field.spec.dims.begin(), field.spec.dims.end());
    auto* data =
        const_cast<uint8_t*>(field.bytes.data());  // from_blob reads only: what follows copies
    const at::ScalarType type = ScalarTypeOf(field.spec.type);
    at::Tensor& tensor = tensors[field.spec.name];
    tensor = device.HostBuffer(shape, type == at::kInt ? at::kLong : type);
    tensor.copy_(at::from_blob(data, shape, type));
  }
  return tensors;
}

BatchStream::BatchStream(const LoaderOptions& options, const ComputeDevice& device,
                         std::unique_ptr<Loader> loader)
    : options_(options), device_(device), loader_(std::move(loader)) {}

StatusOr<StepBatch> BatchStream::Next(int64_t step) {
  if (device_.is_cpu()) return Read(step);
  if (!ahead_.has_value()) {
    WEFT_ASSIGN_OR_RETURN(ahead_, Read(step));
  }
  StepBatch batch = std::move(*ahead_);
  ahead_.reset();
  if (step + 1 < options_.end_step) {
    WEFT_ASSIGN_OR_RETURN(ahead_, Read(step + 1));
    batch.wait_s += std::exchange(ahead_->wait_s, 0.0);
  }
  return batch;
}

StatusOr<StepBatch> BatchStream::Read(int64_t step) {
  StepBatch batch;
  std::vector<NamedTensors> micro_batches;
  for (const int slot : options_.slots) {
    for (int i = 0; i < options_.batch.micro_batches(); ++i) {
      const TimePoint before = Clock::now();
      WEFT_ASSIGN_OR_RETURN(MicroBatch micro_batch, loader_->Next());
      batch.wait_s += ToSeconds(Clock::now() - before);
      WEFT_CHECK_EQ(micro_batch.step, step);
      WEFT_CHECK_EQ(micro_batch.slot, slot);
      batch.samples += static_cast<int64_t>(micro_batch.sample_ids.size());
      batch.targets.push_back(
          std::accumulate(micro_batch.targets.begin(), micro_batch.targets.end(), int64_t{0}));
      micro_batches.push_back(ToTensors(micro_batch, device_));
      loader_->Recycle(std::move(micro_batch));
    }
  }
  batch.inputs = StepInputs(device_, std::move(micro_batches));
  return batch;
}

}  // namespace weft
