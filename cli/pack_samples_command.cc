#include "cli/pack_samples_command.h"

#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdio>
#include <thread>

#include "cli/flags.h"
#include "cluster/base/clock.h"
#include "cluster/base/text.h"
#include "dataloader/pack/pack_samples.h"

namespace weft {
namespace {

int ToInt(int64_t value) { return static_cast<int>(std::clamp<int64_t>(value, INT_MIN, INT_MAX)); }

// A bar that is written over on a terminal; elsewhere a line for each tenth.
class ProgressBar {
 public:
  void operator()(int64_t done, int64_t total) {
    const TimePoint now = Clock::now();
    const int64_t tenth = total > 0 ? done * 10 / total : 10;
    if (terminal_ ? now < next_ && done < total : tenth == tenth_) return;
    next_ = now + std::chrono::milliseconds(100);
    tenth_ = tenth;
    const double share = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 1;
    const double left = done > 0 ? ToSeconds(now - start_) * (1 / share - 1) : 0;
    std::string bar;
    for (int i = 0; i < 30; ++i) bar += i < static_cast<int>(share * 30) ? "█" : "░";
    std::fprintf(stderr, "%s%s %3.0f %%  %lld of %lld samples, %s left%s",
                 terminal_ ? "\r\033[K" : "", bar.c_str(), share * 100,
                 static_cast<long long>(done), static_cast<long long>(total),
                 HumanSeconds(left).c_str(), !terminal_ || done == total ? "\n" : "");
  }

 private:
  const bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  const TimePoint start_ = Clock::now();
  TimePoint next_;
  int64_t tenth_ = -1;
};

void PrintReport(const PackSamplesReport& report) {
  std::printf("%lld samples in %lld shards", static_cast<long long>(report.samples),
              static_cast<long long>(report.shards));
  if (report.shards_kept > 0)
    std::printf(" (%lld were there already)", static_cast<long long>(report.shards_kept));
  if (report.rewritten > 0)
    std::printf(", %lld progressive JPEGs made baseline", static_cast<long long>(report.rewritten));
  if (report.resized > 0)
    std::printf(", %lld pictures resized", static_cast<long long>(report.resized));
  if (report.left_out > 0) {
    std::printf(
        ", %lld samples left out (a picture is broken or missing; `weft data lint` says which)",
        static_cast<long long>(report.left_out));
  }
  std::printf("\n%s\n", report.manifest.c_str());
}

}  // namespace

int PackSamplesCommand(const std::vector<std::string>& args) {
  PackSamplesOptions options;
  int64_t short_side = 0;
  int64_t quality = options.quality;
  int64_t threads = std::max(1U, std::thread::hardware_concurrency());
  FlagParser flags(
      "weft data pack", "SHARD...|MANIFEST --out DIR [flags]",
      "Writes samples of any format as WebDataset shards with indexes and a manifest, in "
      "one shuffle of all\n"
      "samples by key. Progressive JPEGs become baseline ones with the same pixels. A "
      "packing that was stopped\n"
      "goes on when it is called again, and ends with the same bytes.");
  flags.String("out", &options.out, "folder that the shards go to");
  flags.String("prefix", &options.prefix, "shards are PREFIX-000000.tar, ...");
  flags.Int("samples", &options.samples_per_shard, "of a shard");
  flags.Int("seed", &options.seed, "of the shuffle");
  flags.Int(
      "short", &short_side,
      "resize the shorter side to so many pixels and write JPEGs; 0: pictures stay as they are");
  flags.Int("quality", &quality, "of these JPEGs");
  flags.Int("threads", &threads, "threads that work on pictures");
  flags.Positional(1, SIZE_MAX);
  flags.Example("weft data pack mds/index.json --out data/mine --short 256");
  const ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  options.sources = parsed.positional;
  options.short_side = ToInt(short_side);
  options.quality = ToInt(quality);
  options.threads = std::clamp(ToInt(threads), 1, 1024);
  ProgressBar bar;
  const StatusOr<PackSamplesReport> report =
      PackSamples(options, [&bar](int64_t done, int64_t total) { bar(done, total); });
  if (!report.ok()) return ReportError("data pack", report.status());
  PrintReport(*report);
  return 0;
}

}  // namespace weft
