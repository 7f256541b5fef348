// The whole path of a picture and its caption, from shards in the page cache to batches: decode, RandomResizedCrop(224), flip,
// normalise, tokenize. One line of JSON: images, seconds of CPU and of the clock, and for the second half of the batches what
// all threads together asked of the allocator and of locks.
//
//   weft_decode_path_bench --vocabulary FILE [--mode FAST] [--scale_min 0.9] [--threads 1] [--batches 3] SHARDS...
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

#include "cli/flags.h"
#include "cluster/base/clock.h"
#include "dataloader/loader.h"
#include "tests/support/call_counts.h"

namespace weft {
namespace {

constexpr int kBatch = 64;

struct PathOptions {
  std::vector<std::string> shards;
  std::string vocabulary;
  std::string mode = "FAST";
  double scale_min = 0.9;
  int64_t threads = 1;
  int64_t batches = 3;
};

double CpuSeconds() {
  timespec time = {};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

StatusOr<LoaderOptions> MakeOptions(const PathOptions& options) {
  LoaderOptions loader;
  for (const std::string& shard : options.shards) loader.data.add_train_shards(shard);
  loader.data.set_vocabulary(options.vocabulary);
  loader.data.set_loader_threads(static_cast<int>(options.threads));
  AugmentRecipe* augment = loader.data.mutable_augment();
  ImageMode mode;
  if (!ImageMode_Parse(options.mode, &mode))
    return InvalidArgument("--mode " + options.mode + " is neither FAST nor EXACT");
  augment->set_image_mode(mode);
  augment->set_scale_min(options.scale_min);
  augment->set_flip_probability(0.5);
  augment->set_pixel_type(AugmentRecipe::FP32_NORMALISED);
  loader.batch.set_micro_batch_size(kBatch);
  loader.image_size = 224;
  loader.context_length = 77;
  loader.slots = {0};
  // The loader works ahead by `prefetch` batches: what is measured begins and ends with a full window of them.
  loader.data.set_prefetch(1);
  loader.end_step = options.batches + 2;
  return loader;
}

Status Run(const PathOptions& options) {
  WEFT_ASSIGN_OR_RETURN(const LoaderOptions loader_options, MakeOptions(options));
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<Loader> loader, Loader::Open(loader_options));
  const double opened = CpuSeconds();
  const TimePoint start = Clock::now();
  const int64_t half = loader_options.end_step / 2;
  for (int64_t step = 0; step < loader_options.end_step; ++step) {
    if (step == half) testing::StartCountingCalls();
    WEFT_ASSIGN_OR_RETURN(MicroBatch batch, loader->Next());
    loader->Recycle(std::move(batch));
  }
  // All batches, those that nobody waited for too; opening the shards is not part of it.
  const double cpu = CpuSeconds() - opened;
  const double wall = ToSeconds(Clock::now() - start);
  const testing::CallCounts counts = testing::StopCountingCalls();
  const nlohmann::ordered_json line = {
      {"images", kBatch * loader_options.end_step},
      {"cpu_s", cpu},
      {"wall_s", wall},
      {"counted_images", kBatch * (loader_options.end_step - half)},
      {"allocations", counts.allocations},
      {"locks", counts.locks}};
  std::printf("%s\n", line.dump().c_str());
  return OkStatus();
}

int Main(const std::vector<std::string>& args) {
  PathOptions options;
  FlagParser flags("weft_decode_path_bench", "SHARDS... [flags]",
                   "Measures the way from shards to batches of pictures and token ids.");
  flags.String("vocabulary", &options.vocabulary, "vocabulary file");
  flags.String("mode", &options.mode, "FAST or EXACT");
  flags.Double("scale_min", &options.scale_min, "smallest share of a picture that is cut out");
  flags.Int("threads", &options.threads, "decoding threads");
  flags.Int("batches", &options.batches, "batches of 64, and 2 more");
  flags.Positional(1, 1000);
  ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  options.shards = std::move(parsed.positional);
  const Status status = Run(options);
  return status.ok() ? 0 : ReportError("weft_decode_path_bench", status);
}

}  // namespace
}  // namespace weft

int main(int argc, char** argv) { return weft::Main({argv + 1, argv + argc}); }
