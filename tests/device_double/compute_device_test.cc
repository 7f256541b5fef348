#include "parallel/device/compute_device.h"

#include <ATen/ATen.h>
#include <c10/core/StreamGuard.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "parallel/engine/step_inputs.h"
#include "tests/gpu_double/contract.h"

namespace weft::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

TEST(ComputeDevice, OpensADeviceWithStreamsOfItsOwn) {
  EXPECT_EQ(ComputeDevice::Count(), 8);
  const auto device = ComputeDevice::Open(2);
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_FALSE(device->is_cpu());
  EXPECT_NE(device->stream(), nullptr);
  EXPECT_NE(device->compute_stream(), device->copy_stream());
  EXPECT_EQ(at::empty({3}, device->Options(at::kFloat)).device(), device->device());
  EXPECT_TRUE(device->HostBuffer({4}, at::kFloat).is_pinned());
}

TEST(ComputeDevice, NamesADeviceThatIsNotThere) {
  const auto device = ComputeDevice::Open(8);
  EXPECT_EQ(device.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(device.status().message(), HasSubstr("device 8 of 8"));
}

NamedTensors Batch(const ComputeDevice& device) {
  NamedTensors batch;
  batch["pixels"] = device.HostBuffer({1000}, at::kLong).copy_(at::arange(1000));
  return batch;
}

TEST(StepInputs, TakeMakesTheComputationWaitForTheCopy) {
  const auto device = ComputeDevice::Open(3);
  ASSERT_TRUE(device.ok());
  StepInputs inputs(*device, {Batch(*device), Batch(*device)});
  const at::Tensor sum = inputs.Take(1).at("pixels").sum();
  EXPECT_EQ(sum.item<int64_t>(), 499500);
  EXPECT_TRUE(at::equal(inputs.Take(0).at("pixels").to(at::kCPU), at::arange(1000)));
}

// The copies come late, so what did not wait is seen.
TEST(StepInputs, WithoutWaitingTheBytesAreNotThere) {
  const auto device = ComputeDevice::Open(4);
  ASSERT_TRUE(device.ok());
  const NamedTensors batch = Batch(*device);
  at::Tensor copy;
  {
    const c10::StreamGuard on_copy_stream(*device->copy_stream());
    copy = batch.at("pixels").to(device->device(), /*non_blocking=*/true);
  }
  copy.sum().item<int64_t>();
  EXPECT_THAT(TakeBreaches(), SizeIs(::testing::Ge(1U)));
  device->copy_stream()->synchronize();
}

// Memory that the computation may still read is not the next copy's.
TEST(StepInputs, FreedInputsWaitForTheComputation) {
  const auto device = ComputeDevice::Open(5);
  ASSERT_TRUE(device.ok());
  for (int step = 0; step < 20; ++step) {
    StepInputs inputs(*device, {Batch(*device)});
    EXPECT_EQ(inputs.Take(0).at("pixels").sum().item<int64_t>(), 499500);
  }
}

}  // namespace
}  // namespace weft::testing
