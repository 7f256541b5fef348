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

NamedTensors ToTensors(const MicroBatch& batch) {
  NamedTensors tensors;
  for (const Field& field : batch.fields) {
    std::vector<int64_t> shape = {static_cast<int64_t>(batch.sample_ids.size())};
    shape.insert(shape.end(), field.spec.dims.begin(), field.spec.dims.end());
    auto* data =
        const_cast<uint8_t*>(field.bytes.data());  // from_blob reads only: what follows copies
    at::Tensor tensor = at::from_blob(data, shape, ScalarTypeOf(field.spec.type));
    const bool widen = field.spec.type == FieldType::kI32;
    tensors[field.spec.name] = widen ? tensor.to(at::kLong) : tensor.clone();
  }
  return tensors;
}

BatchStream::BatchStream(const LoaderOptions& options, std::unique_ptr<Loader> loader)
    : options_(options), loader_(std::move(loader)) {}

StatusOr<StepBatch> BatchStream::Next(int64_t step) {
  StepBatch batch;
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
      batch.micro_batches.push_back(ToTensors(micro_batch));
      loader_->Recycle(std::move(micro_batch));
    }
  }
  return batch;
}

}  // namespace weft
