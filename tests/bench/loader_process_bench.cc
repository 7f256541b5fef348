// What it costs to read samples in a process of their own: CPU and wall time for the same micro-batches from a loader's
// threads and from `weft loader`'s ring, for two consumers with one decoding thread each.
//
//   weft_loader_process_bench [--batches 120] [--side 256] [--report build/reports/loader-process.json]
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/flags.h"
#include "cluster/base/clock.h"
#include "cluster/base/file_system.h"
#include "cluster/base/loader_segment.h"
#include "cluster/base/logging.h"
#include "dataloader/bpe_trainer.h"
#include "dataloader/loader.h"
#include "dataloader/process/loader_service.h"
#include "dataloader/process/ring_loader.h"
#include "tests/dataloader/test_images.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kConsumers = 2;
constexpr int kRows = 16;

double CpuSeconds() {
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

LoaderOptions Options(const std::string& dir, int side, int64_t batches) {
  LoaderOptions options;
  options.seed = 1;
  options.batch.set_slots(kConsumers);
  options.batch.set_micro_batch_size(kRows);
  options.image_size = 224;
  options.context_length = 77;
  options.end_step = batches;
  const auto vocabulary = BpeTrainer(BpeStyle::kClip).Train(BpeFixedEntries(BpeStyle::kClip));
  WEFT_CHECK(vocabulary.ok()) << vocabulary.status();
  WriteBytes(dir + "/vocab.txt", *vocabulary);
  WriteShard(dir + "/train.tar", MakeSamples(0, 400, side));
  options.data.set_vocabulary(dir + "/vocab.txt");
  options.data.add_train_shards(dir + "/train.tar");
  return options;
}

// Each consumer reads all of its micro-batches as fast as they come.
template <typename Open>
void Consume(const LoaderOptions& options, const Open& open) {
  std::vector<std::thread> consumers;
  for (int i = 0; i < kConsumers; ++i) {
    consumers.emplace_back([&, i] {
      LoaderOptions own = options;
      own.slots = {i};
      auto loader = open(own, i);
      WEFT_CHECK(loader.ok()) << loader.status();
      for (int64_t batch = 0; batch < options.end_step; ++batch) {
        auto micro_batch = (*loader)->Next();
        WEFT_CHECK(micro_batch.ok()) << micro_batch.status();
        (*loader)->Recycle(std::move(*micro_batch));
      }
    });
  }
  for (std::thread& consumer : consumers) consumer.join();
}

Json Figures(const LoaderOptions& options, double cpu_s, double wall_s) {
  const auto images = static_cast<double>(options.end_step * kConsumers * kRows);
  return {{"cpu_us_per_image", cpu_s / images * 1e6}, {"images_per_s", images / wall_s}};
}

Json Threads(const LoaderOptions& options) {
  const double cpu = CpuSeconds();
  const TimePoint start = Clock::now();
  Consume(options, [](const LoaderOptions& own, int) { return Loader::Open(own); });
  return Figures(options, CpuSeconds() - cpu, ToSeconds(Clock::now() - start));
}

// The process is forked, so its CPU time is what wait4 says at its end.
Json Process(const LoaderOptions& options) {
  auto created = LoaderSegment::Create(kConsumers, size_t{64} << 20);
  WEFT_CHECK(created.ok()) << created.status();
  const std::shared_ptr<LoaderSegment> segment = std::move(*created);
  const pid_t service = ::fork();
  if (service == 0) ::_exit(RunLoaderService({.segment = segment}).ok() ? 0 : 1);
  const double cpu = CpuSeconds();
  const TimePoint start = Clock::now();
  Consume(options, [&](const LoaderOptions& own, int consumer) {
    LoaderSeat seat;
    seat.segment = segment;
    seat.region = consumer;
    seat.id = 1;
    return OpenRingLoader(seat, own);
  });
  const double own = CpuSeconds() - cpu;
  const double wall = ToSeconds(Clock::now() - start);
  ::kill(service, SIGKILL);
  rusage usage = {};
  ::wait4(service, nullptr, 0, &usage);
  const double theirs = static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                        static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
  Json figures = Figures(options, own + theirs, wall);
  figures["of_it_the_consumers"] =
      own / static_cast<double>(options.end_step * kConsumers * kRows) * 1e6;
  return figures;
}

int Main(const std::vector<std::string>& args) {
  int64_t batches = 120;
  int64_t side = 256;
  std::string report = "build/reports/loader-process.json";
  FlagParser flags("weft_loader_process_bench", "[flags]",
                   "Compares a loader's threads with the loader process.");
  flags.Int("batches", &batches, "micro-batches of 16 a consumer and round");
  flags.Int("side", &side, "side of the JPEGs");
  flags.String("report", &report, "where the figures go");
  const ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  const testing::TempDir dir;
  const LoaderOptions options = Options(dir.path(), static_cast<int>(side), batches);
  Json rounds = Json::array();
  // In turn, so that other load meets both.
  for (int round = 0; round < 3; ++round)
    rounds.push_back({{"threads", Threads(options)}, {"process", Process(options)}});
  std::printf("%s\n", rounds.dump(1).c_str());
  FileSystem* fs = PosixFileSystem();
  const bool written = fs->MakeDirs(ParentPath(report)).ok() &&
                       WriteFileDurably(fs, report, rounds.dump(1) + "\n").ok();
  return written ? 0 : 1;
}

}  // namespace
}  // namespace weft

int main(int argc, char** argv) { return weft::Main({argv + 1, argv + argc}); }
