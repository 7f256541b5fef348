#include "cli/pack_shapes_command.h"

#include <algorithm>
#include <climits>
#include <cstdint>
#include <cstdio>

#include "cli/flags.h"
#include "cluster/base/clock.h"
#include "cluster/base/text.h"
#include "dataloader/pack/pack_shapes.h"

namespace weft {

int PackShapesCommand(const std::vector<std::string>& args) {
  PackShapesOptions options;
  int64_t side = options.side;
  int64_t shards = options.shards;
  int64_t seed = 1;
  FlagParser flags(
      "weft data pack shapes", "--out DIR [flags]",
      "Draws pictures such as \"a large red ring at the top left on a grey ground\": "
      "WebDataset shards\n"
      "train-000000.tar ... and eval-000000.tar to try Weft with, without a download. "
      "Held out are the\n"
      "captions whose FNV-1a 64 mod 10 is 0. A second call with the same flags returns "
      "at once.");
  flags.String("out", &options.out, "folder that the shards go to");
  flags.Int("pictures", &options.pictures, "drawn, for both sets");
  flags.Int("side", &side, "pixels of a picture's side");
  flags.Int("shards", &shards, "training shards");
  flags.Int("seed", &seed, "another one draws other pictures");
  flags.Example("weft data pack shapes --out data/shapes");
  const ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  options.side = static_cast<int>(std::clamp<int64_t>(side, 0, INT_MAX));
  options.shards = static_cast<int>(std::clamp<int64_t>(shards, 0, INT_MAX));
  options.seed = static_cast<uint64_t>(seed);
  const TimePoint start = Clock::now();
  const StatusOr<PackShapesReport> report = PackShapes(options);
  if (!report.ok()) return ReportError("data pack shapes", report.status());
  std::printf("%lld training pictures, %lld held out, %lld dropped (their caption is held out)\n",
              static_cast<long long>(report->train), static_cast<long long>(report->held_out),
              static_cast<long long>(report->dropped_twins));
  const std::string seconds = HumanSeconds(ToSeconds(Clock::now() - start));
  std::printf("%s %s%s\n", report->already_done ? "already packed:" : "packed into",
              options.out.c_str(), report->already_done ? "" : (" in " + seconds).c_str());
  return 0;
}

}  // namespace weft
