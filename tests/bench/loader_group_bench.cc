// What grouping batches by kind (`data.batcher`) costs beside loading the same batches on one core: the median time to work a
// bucket out, and its share of a batch's loading (336 px pictures).
//
//   weft_loader_group_bench [--steps 20] [--buckets 20] [--report build/reports/loader-group.json]
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/flags.h"
#include "cluster/base/clock.h"
#include "cluster/base/file_system.h"
#include "cluster/base/logging.h"
#include "dataloader/loader.h"
#include "tests/dataloader/picture_mix.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kBucket = 8192;

struct BenchFlags {
  int64_t steps = 20;
  int64_t buckets = 20;
  std::string report = "build/reports/loader-group.json";
};

double SecondsToLoadABatch(LoaderOptions options, int64_t steps) {
  for (int slot = 0; slot < PictureMix::kSlots; ++slot) options.slots.push_back(slot);
  options.end_step = steps;
  const int64_t micro_batches = steps * PictureMix::kSlots * options.batch.micro_batches();
  const TimePoint start = Clock::now();
  auto loader = Loader::Open(options);
  WEFT_CHECK(loader.ok()) << loader.status();
  for (int64_t i = 0; i < micro_batches; ++i) {
    auto batch = (*loader)->Next();
    WEFT_CHECK(batch.ok()) << batch.status();
    (*loader)->Recycle(std::move(*batch));
  }
  return ToSeconds(Clock::now() - start) / static_cast<double>(steps);
}

// The median over buckets after the one in which the weights change; each is worked out for the first time.
double SecondsToGroupABucket(PictureMix* world, int64_t buckets) {
  const GroupedRows data(world);
  const int64_t batches = (kBucket + PictureMix::kBatch - 1) / PictureMix::kBatch;
  std::vector<double> seconds;
  for (int64_t bucket = 0; bucket < buckets; ++bucket) {
    const auto steps = data.grouper->BucketOf(24 + bucket * batches);
    WEFT_CHECK_EQ(steps.end - steps.first, batches);
    const TimePoint start = Clock::now();
    WEFT_CHECK(data.grouper->At(steps.first, 0, 0).ok());
    seconds.push_back(ToSeconds(Clock::now() - start));
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

int Main(const std::vector<std::string>& args) {
  BenchFlags flags;
  FlagParser parser("weft_loader_group_bench", "[flags]",
                    "Measures grouping batches by kind beside loading them.");
  parser.Int("steps", &flags.steps, "batches to load");
  parser.Int("buckets", &flags.buckets, "buckets to work out");
  parser.String("report", &flags.report, "where the figures go");
  const ParsedFlags parsed = parser.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  WEFT_CHECK(flags.steps > 0 && flags.buckets > 0);
  const testing::TempDir dir;
  PictureMix world(dir.path(), 340);
  world.options().data.mutable_batcher()->set_bucket(kBucket);
  const double load = SecondsToLoadABatch(world.options(), flags.steps);
  const double bucket = SecondsToGroupABucket(&world, flags.buckets);
  const int64_t positions =
      (kBucket + PictureMix::kBatch - 1) / PictureMix::kBatch * PictureMix::kBatch;
  const double batch = bucket * PictureMix::kBatch / static_cast<double>(positions);
  const Json report = {{"samples_of_a_batch", PictureMix::kBatch},
                       {"positions_of_a_bucket", positions},
                       {"us_a_bucket", bucket * 1e6},
                       {"us_a_batch", batch * 1e6},
                       {"us_to_load_a_batch", load * 1e6},
                       {"share", batch / load}};
  std::printf("%s\n", report.dump(1).c_str());
  FileSystem* fs = PosixFileSystem();
  const bool written = fs->MakeDirs(ParentPath(flags.report)).ok() &&
                       WriteFileDurably(fs, flags.report, report.dump(1) + "\n").ok();
  return written ? 0 : 1;
}

}  // namespace
}  // namespace weft

int main(int argc, char** argv) { return weft::Main({argv + 1, argv + argc}); }
