#include "worker/bench/peaks.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>

#include <algorithm>
#include <chrono>
#include <functional>

namespace weft {
namespace {

constexpr int kRounds = 5;

// Seconds of one call: the best round of several calls, after one to warm up.
double BestSeconds(const ComputeDevice& device, int calls, const std::function<void()>& call) {
  double best = 0;
  for (int round = -1; round < kRounds; ++round) {
    device.Synchronize();
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < calls; ++i) call();
    device.Synchronize();
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / calls;
    if (round >= 0) best = best == 0 ? seconds : std::min(best, seconds);
  }
  return best;
}

}  // namespace

double MatmulFlops(const ComputeDevice& device, at::ScalarType type) {
  const int64_t side = device.is_cpu() ? 512 : type == at::kDouble ? 2048 : 8192;
  const at::Tensor a = at::ones({side, side}, device.Options(type));
  const at::Tensor b = at::ones({side, side}, device.Options(type));
  at::Tensor c = at::empty({side, side}, device.Options(type));
  const double seconds =
      BestSeconds(device, device.is_cpu() ? 1 : 10, [&] { at::mm_out(c, a, b); });
  const auto n = static_cast<double>(side);
  return 2 * n * n * n / seconds;
}

std::vector<Peak> MeasurePeaks(const ComputeDevice& device) {
  std::vector<Peak> peaks;
  for (const at::ScalarType type : {at::kBFloat16, at::kFloat, at::kDouble}) {
    peaks.push_back({std::string("matmul ") + c10::toString(type), MatmulFlops(device, type) / 1e12,
                     "TFLOP/s"});
  }
  const int64_t bytes = device.is_cpu() ? 32 << 20 : 1 << 30;
  const at::Tensor from = at::ones({bytes}, device.Options(at::kByte));
  at::Tensor to = at::empty({bytes}, device.Options(at::kByte));
  const auto rate = [&](double seconds) { return static_cast<double>(bytes) / seconds / 1e9; };
  // Read and written.
  peaks.push_back(
      {"copy on the device", 2 * rate(BestSeconds(device, 4, [&] { to.copy_(from); })), "GB/s"});
  if (device.is_cpu()) return peaks;
  const at::Tensor host = device.HostBuffer({bytes}, at::kByte);
  peaks.push_back({"copy from the host",
                   rate(BestSeconds(device, 2, [&] { to.copy_(host, /*non_blocking=*/true); })),
                   "GB/s"});
  return peaks;
}

}  // namespace weft
