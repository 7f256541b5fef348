// The double itself: what must fail does, and the numbers are the CPU's.
#include "tests/device_double/device_double.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/gpu_double/contract.h"

namespace weft::testing {
namespace {

using ::testing::HasSubstr;

const bool kInstalled = InstallDeviceDouble() && FailTestsOnBreaches();

const at::Device kDevice(c10::DeviceType::PrivateUse1, 0);

at::Tensor Numbers(int64_t rows, int64_t columns) {
  return at::arange(rows * columns, at::kDouble).view({rows, columns}).sin();
}

TEST(DeviceDouble, ComputesWithTheBitsOfTheCpu) {
  const at::Tensor a = Numbers(7, 5);
  const at::Tensor b = Numbers(5, 9);
  const at::Tensor on_device = at::mm(a.to(kDevice), b.to(kDevice)).softmax(1);
  EXPECT_EQ(on_device.device(), kDevice);
  EXPECT_TRUE(at::equal(on_device.to(at::kCPU), at::mm(a, b).softmax(1)));
}

TEST(DeviceDouble, ViewsShareTheirBytes) {
  at::Tensor x = Numbers(4, 6).to(kDevice);
  x.narrow(0, 1, 2).t().select(0, 3).fill_(5);
  const at::Tensor host = x.to(at::kCPU);
  EXPECT_EQ(host[2][3].item<double>(), 5);
  EXPECT_EQ(host[0][3].item<double>(), Numbers(4, 6)[0][3].item<double>());
}

TEST(DeviceDouble, BackwardIsTheCpus) {
  const auto gradient = [](const at::Device& device) {
    const at::Tensor x = Numbers(6, 8).to(device).requires_grad_(true);
    const at::Tensor weight = Numbers(1, 8).flatten().to(device);
    const at::Tensor y = at::layer_norm(at::gelu(x), {8}, weight, weight);
    y.square().sum().backward();
    return x.grad().to(at::kCPU);
  };
  EXPECT_TRUE(at::equal(gradient(kDevice), gradient(at::kCPU)));
}

TEST(DeviceDouble, RefusesTensorsOfTwoPlaces) {
  const at::Tensor here = Numbers(2, 2);
  const at::Tensor there = here.to(kDevice);
  EXPECT_THAT([&] { at::add(here, there); }, ::testing::Throws<std::exception>());
  EXPECT_THAT([&] { at::mm(there, here); }, ::testing::Throws<std::exception>());
  const at::Tensor elsewhere = here.to(at::Device(c10::DeviceType::PrivateUse1, 1));
  EXPECT_THAT([&] { at::add(there, elsewhere); }, ::testing::Throws<std::exception>());
  EXPECT_TRUE(
      at::equal(at::add(there, at::scalar_tensor(1.0, at::kDouble)).to(at::kCPU), here + 1));
}

TEST(DeviceDoubleDeathTest, TheHostDiesOfAPointerIntoTheDevice) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const at::Tensor there = Numbers(2, 2).to(kDevice);
  EXPECT_EXIT(
      {
        volatile double value = *there.const_data_ptr<double>();
        static_cast<void>(value);
      },
      ::testing::KilledBySignal(SIGSEGV), "");
}

}  // namespace
}  // namespace weft::testing
