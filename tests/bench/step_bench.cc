// Milliseconds (of processor time) of one training step on one rank: forward and backward, exchange and norm, optimizer; beside them the time
// that the same multiplications take as bare matrix products of the model's own shape, measured in the same run.
//
//   weft_step_bench [fp32|bf16] [micro-batch] [micro-batches] [steps]
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>

#include "cluster/base/logging.h"
#include "parallel/memory.h"
#include "tests/models/clip_fixture.h"

namespace weft::testing {
namespace {

// Seconds of processor time of this thread: one thread works here, and a busy machine does not count.
double Now() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Of the demo's size: ViT of 64 px, patch 8, width 256, 6 layers; 4 text layers of width 256.
Recipe DemoRecipe(Precision precision, int micro_batch, int micro_batches) {
  Recipe recipe;
  ClipModel* clip = recipe.mutable_model()->mutable_clip();
  clip->set_embed_dim(256);
  clip->set_image_size(64);
  clip->set_patch_size(8);
  clip->set_vision_width(256);
  clip->set_vision_layers(6);
  clip->set_context_length(24);
  clip->set_vocab_size(4096);
  clip->set_text_width(256);
  clip->set_text_layers(4);
  recipe.set_precision(precision);
  recipe.mutable_batch()->set_micro_batch_size(micro_batch);
  recipe.mutable_batch()->set_micro_batches(micro_batches);
  return recipe;
}

// Floating-point operations per second of [rows, width] x [width, 4 width].
double MatmulRate(at::ScalarType type, int64_t rows, int64_t width) {
  const at::Tensor a = at::ones({rows, width}, type);
  const at::Tensor b = at::ones({width, 4 * width}, type);
  for (int i = 0; i < 5; ++i) at::mm(a, b);
  const int repeats = 40;
  const double start = Now();
  for (int i = 0; i < repeats; ++i) at::mm(a, b);
  const auto flops = 8.0 * static_cast<double>(rows * width * width);
  return flops * repeats / (Now() - start);
}

int Main(int argc, char** argv) {
  KeepFreedMemory();
  at::set_num_threads(1);
  const std::string precision = argc > 1 ? argv[1] : "bf16";
  const int micro_batch = argc > 2 ? std::atoi(argv[2]) : 64;
  const int micro_batches = argc > 3 ? std::atoi(argv[3]) : 1;
  const int steps = argc > 4 ? std::atoi(argv[4]) : 10;
  const Recipe recipe = DemoRecipe(precision == "fp32" ? FP32 : BF16, micro_batch, micro_batches);
  ClipRank rank(recipe, nullptr);
  rank.store.Initialize(1);
  const std::vector<NamedTensors> batches = rank.RandomBatches(0);

  rank.TrainStep(0, batches, 1e-4);
  double run = 0;
  double reduce = 0;
  double update = 0;
  for (int step = 1; step <= steps; ++step) {
    const double t0 = Now();
    WEFT_CHECK_OK(rank.engine.RunStep(step, batches).status());
    const double t1 = Now();
    WEFT_CHECK_OK(rank.reducer.Finish());
    WEFT_CHECK_OK(GradientNorm(rank.store, rank.reducer, &rank.context, step).status());
    const double t2 = Now();
    WEFT_CHECK_OK(rank.optimizer.Step(1e-4, rank.reducer));
    run += t1 - t0;
    reduce += t2 - t1;
    update += Now() - t2;
  }
  const double samples = static_cast<double>(micro_batch) * micro_batches;
  const double flops = rank.spec.TrainFlopsPerSample() * samples;
  const at::ScalarType type = precision == "fp32" ? at::kFloat : at::kBFloat16;
  const double rate = MatmulRate(type, micro_batch * 65, 256);
  const double ms = 1e3 / steps;
  std::printf("%s, %d x %d samples, %.1f M parameters, %.2f GFLOP a sample\n", precision.c_str(),
              micro_batches, micro_batch, 1e-6 * static_cast<double>(rank.spec.NumParameters()),
              1e-9 * rank.spec.TrainFlopsPerSample());
  std::printf("forward+backward %.1f ms, norm %.1f ms, optimizer %.1f ms: %.1f images/s\n",
              run * ms, reduce * ms, update * ms, samples * steps / (run + reduce + update));
  std::printf(
      "bare matmul %.0f GFLOP/s: the step's FLOPs take %.1f ms there, %.0f %% of "
      "forward+backward\n",
      1e-9 * rate, 1e3 * flops / rate, 100 * flops / rate / (run / steps));
  return 0;
}

}  // namespace
}  // namespace weft::testing

int main(int argc, char** argv) { return weft::testing::Main(argc, argv); }
