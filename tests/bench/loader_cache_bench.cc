// What the cache on local disk does for a loader whose shards lie on a slow file system: time and bytes of the source in the first
// and in later epochs, hits beside Belady's optimum for caches of a part of the set, and what it costs where all is local.
//
// The slow file system is this program's own pread: reads of a shard wait for a latency each and share a bandwidth. Everything
// else is the loader as it is.
//
//   weft_loader_cache_bench [--samples 8192] [--latency-us 1000] [--megabytes-per-s 60] [--report build/reports/loader-cache.json]
#include <dlfcn.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "cli/flags.h"
#include "cluster/base/clock.h"
#include "cluster/base/file_system.h"
#include "cluster/base/logging.h"
#include "dataloader/bpe_trainer.h"
#include "dataloader/data_set.h"
#include "dataloader/loader.h"
#include "dataloader/sample_mix.h"
#include "tests/dataloader/test_images.h"
#include "tests/support/temp_dir.h"

namespace {

// Shards, told by their numbers in the file system; set before a loader is opened.
std::set<ino_t> slow_files;
double latency_s = 0;
double bytes_per_s = 0;
std::atomic<uint64_t> source_bytes = 0;
std::atomic<uint64_t> source_reads = 0;
std::mutex wire;
weft::TimePoint wire_free;

void WaitForSource(size_t bytes) {
  weft::TimePoint end;
  {
    const std::lock_guard<std::mutex> lock(wire);
    const weft::TimePoint start = std::max(weft::Clock::now(), wire_free);
    wire_free = end = start + weft::FromSeconds(static_cast<double>(bytes) / bytes_per_s);
  }
  std::this_thread::sleep_until(end + weft::FromSeconds(latency_s));
}

}  // namespace

// Takes the place of libc's.
extern "C" ssize_t pread(int fd, void* out, size_t size, off_t offset) {
  using Pread = ssize_t (*)(int, void*, size_t, off_t);
  static const auto kNext = reinterpret_cast<Pread>(::dlsym(RTLD_NEXT, "pread"));
  struct stat st = {};
  if (!slow_files.empty() && ::fstat(fd, &st) == 0 && slow_files.count(st.st_ino) > 0) {
    source_bytes += size;
    ++source_reads;
    if (bytes_per_s > 0) WaitForSource(size);
  }
  return kNext(fd, out, size, offset);
}

namespace weft {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kSlots = 4;
constexpr int kBatch = 64;  // over all slots
constexpr int kShards = 8;

struct BenchFlags {
  int64_t samples = 8192;
  int64_t latency_us = 1000;
  int64_t megabytes_per_s = 60;
  int64_t big_samples = 1024;
  std::string report = "build/reports/loader-cache.json";
};

double CpuSeconds() {
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Shards of JPEGs of `side`, and a recipe whose open windows are 192 samples.
LoaderOptions MakeSet(const std::string& dir, int64_t samples, int side, int pixels) {
  LoaderOptions options;
  std::filesystem::create_directories(dir);
  const auto vocabulary = BpeTrainer(BpeStyle::kClip).Train(BpeFixedEntries(BpeStyle::kClip));
  WEFT_CHECK(vocabulary.ok()) << vocabulary.status();
  WriteBytes(dir + "/vocab.txt", *vocabulary);
  options.data.set_vocabulary(dir + "/vocab.txt");
  const int each = static_cast<int>(samples / kShards);
  for (int shard = 0; shard < kShards; ++shard) {
    const std::string path = dir + "/s" + std::to_string(shard) + ".tar";
    WriteShard(path, MakeSamples(shard * each, each, side));
    const auto file = ShardFile::Open(path);
    WEFT_CHECK(file.ok() && ShardIndex::BuildWithChecksums(**file)->WriteBeside(**file).ok());
    options.data.add_train_shards(path);
  }
  options.seed = 1;
  options.batch.set_slots(kSlots);
  options.batch.set_micro_batch_size(kBatch / kSlots);
  options.image_size = pixels;
  options.context_length = 32;
  options.slots = {0, 1, 2, 3};
  options.data.set_loader_threads(2);
  options.data.mutable_order()->set_lanes(kSlots);
  options.data.mutable_order()->set_chunk(16);
  options.data.mutable_order()->set_window(3);
  return options;
}

uint64_t BytesOf(const LoaderOptions& options) {
  uint64_t bytes = 0;
  for (const std::string& shard : options.data.train_shards())
    bytes += std::filesystem::file_size(shard);
  return bytes;
}

struct Epoch {
  double seconds = 0;
  double cpu_s = 0;
  uint64_t bytes = 0;
  uint64_t reads = 0;
};

// Reads `epochs` epochs, as fast as they come; on the slow source if `slow`.
std::vector<Epoch> ReadEpochs(LoaderOptions options, int64_t samples, int epochs, bool slow,
                              const BenchFlags& flags) {
  const int64_t steps = samples / kBatch;
  options.end_step = steps * epochs;
  auto loader = Loader::Open(options);
  WEFT_CHECK(loader.ok()) << loader.status();
  for (const std::string& shard : options.data.train_shards()) {
    struct stat st = {};
    WEFT_CHECK(::stat(shard.c_str(), &st) == 0);
    slow_files.insert(st.st_ino);
  }
  latency_s = 1e-6 * static_cast<double>(flags.latency_us);
  bytes_per_s = slow ? 1e6 * static_cast<double>(flags.megabytes_per_s) : 0;
  std::vector<Epoch> done;
  for (int e = 0; e < epochs; ++e) {
    const TimePoint start = Clock::now();
    const double cpu = CpuSeconds();
    const uint64_t bytes = source_bytes;
    const uint64_t reads = source_reads;
    for (int64_t i = 0; i < steps * static_cast<int64_t>(options.slots.size()); ++i) {
      auto batch = (*loader)->Next();
      WEFT_CHECK(batch.ok()) << batch.status();
      (*loader)->Recycle(std::move(*batch));
    }
    done.push_back({ToSeconds(Clock::now() - start), CpuSeconds() - cpu, source_bytes - bytes,
                    source_reads - reads});
  }
  bytes_per_s = 0;
  return done;
}

// Visits to chunks in the order of their first rows, by epoch, and their bytes.
struct Visits {
  std::vector<std::pair<uint64_t, uint64_t>> chunks;  // chunk, epoch
  std::map<uint64_t, uint64_t> bytes;
};

Visits WalkVisits(const LoaderOptions& options, int64_t samples, int epochs) {
  const auto mix = SampleMix::Open(options);
  WEFT_CHECK(mix.ok()) << mix.status();
  const auto order = MakeOrder(options.data, options.batch, options.seed, (*mix)->OrderedSets());
  WEFT_CHECK(order.ok()) << order.status();
  const DataSet& set = *(*mix)->source(0).data_set();
  const int64_t chunk = options.data.order().chunk();
  Visits visits;
  std::set<std::pair<uint64_t, uint64_t>> seen;
  for (int64_t step = 0; step < samples / kBatch * epochs; ++step) {
    for (const int slot : options.slots) {
      for (const SampleRef& ref : order->Rows(step, slot)) {
        const DataSet::Place place = set.PlaceOf(static_cast<int64_t>(ref.id));
        const int64_t first = place.index / chunk * chunk;
        const uint64_t id = static_cast<uint64_t>(place.shard) << 32 | static_cast<uint64_t>(first);
        if (!seen.insert({id, ref.epoch}).second) continue;
        visits.chunks.emplace_back(id, ref.epoch);
        visits.bytes[id] = set.BytesOf(place.shard, first, first + chunk);
      }
    }
  }
  return visits;
}

// The share of visits from the second epoch on that a cache of so many bytes can serve at most: Belady's MIN, which also lets
// a chunk pass that is needed later than all that it holds.
double BeladyHits(const Visits& visits, uint64_t limit) {
  const size_t n = visits.chunks.size();
  std::vector<size_t> next(n, n);
  std::map<uint64_t, size_t> later;
  for (size_t i = n; i-- > 0;) {
    const auto found = later.find(visits.chunks[i].first);
    if (found != later.end()) next[i] = found->second;
    later[visits.chunks[i].first] = i;
  }
  std::set<std::pair<size_t, uint64_t>> held;  // next use, chunk
  uint64_t bytes = 0;
  double hits = 0;
  double all = 0;
  for (size_t i = 0; i < n; ++i) {
    const auto [chunk, epoch] = visits.chunks[i];
    const bool hit = held.erase({i, chunk}) > 0;
    if (!hit) bytes += visits.bytes.at(chunk);
    if (epoch > 0) {
      hits += hit ? 1 : 0;
      ++all;
    }
    held.insert({next[i], chunk});
    while (bytes > limit) {
      bytes -= visits.bytes.at(held.rbegin()->second);
      held.erase(std::prev(held.end()));
    }
  }
  return hits / all;
}

Json EpochFigures(const Epoch& epoch, uint64_t set_bytes) {
  return {
      {"seconds", epoch.seconds},
      {"source_bytes_of_set", static_cast<double>(epoch.bytes) / static_cast<double>(set_bytes)},
      {"source_reads", epoch.reads}};
}

// A slow source: without a cache, and with one that holds the set.
Json SlowSource(const LoaderOptions& set, const BenchFlags& flags, const std::string& cache) {
  const uint64_t bytes = BytesOf(set);
  const std::vector<Epoch> direct = ReadEpochs(set, flags.samples, 1, true, flags);
  LoaderOptions cached = set;
  cached.data.set_cache_dir(cache);
  cached.data.set_cache_bytes(int64_t{1} << 33);
  const std::vector<Epoch> epochs = ReadEpochs(cached, flags.samples, 2, true, flags);
  const std::vector<Epoch> restart = ReadEpochs(cached, flags.samples, 1, true, flags);
  std::filesystem::remove_all(cache);
  return {{"set_bytes", bytes},
          {"without", EpochFigures(direct[0], bytes)},
          {"epoch_1", EpochFigures(epochs[0], bytes)},
          {"epoch_2", EpochFigures(epochs[1], bytes)},
          {"another_run", EpochFigures(restart[0], bytes)},
          {"epoch_1_times_as_fast_as_without", direct[0].seconds / epochs[0].seconds},
          {"epoch_2_times_as_fast_as_without", direct[0].seconds / epochs[1].seconds},
          {"epoch_2_times_as_fast_as_epoch_1", epochs[0].seconds / epochs[1].seconds}};
}

// A cache of a part of the set: the share of bytes from the second epoch on that the source was spared.
Json PartOfTheSet(LoaderOptions options, double part, const BenchFlags& flags,
                  const std::string& cache) {
  constexpr int kEpochs = 5;
  const Visits visits = WalkVisits(options, flags.samples, kEpochs);
  double needed = 0;
  for (const auto& [chunk, epoch] : visits.chunks)
    needed += epoch > 0 ? static_cast<double>(visits.bytes.at(chunk)) : 0;
  const auto limit = static_cast<uint64_t>(part * static_cast<double>(BytesOf(options)));
  options.data.set_cache_dir(cache);
  options.data.set_cache_bytes(static_cast<int64_t>(limit));
  const std::vector<Epoch> epochs = ReadEpochs(options, flags.samples, kEpochs, true, flags);
  std::filesystem::remove_all(cache);
  double read = 0;
  for (int e = 1; e < kEpochs; ++e)
    read += static_cast<double>(epochs[static_cast<size_t>(e)].bytes);
  return {
      {"cache_of_set", part}, {"hits", 1 - read / needed}, {"belady", BeladyHits(visits, limit)}};
}

Json PartsOfTheSet(const LoaderOptions& set, const BenchFlags& flags, const std::string& cache) {
  Json parts = Json::array();
  for (const double part : {0.1, 0.3, 0.6}) parts.push_back(PartOfTheSet(set, part, flags, cache));
  return parts;
}

// The first of two machines, which reads other chunks in each epoch; also without knowing that it is one of two.
Json OneOfTwoNodes(const LoaderOptions& set, const BenchFlags& flags, const std::string& cache) {
  LoaderOptions node = set;
  node.slots = {0, 1};
  Json figures = {{"unaware", PartOfTheSet(node, 0.3, flags, cache)}};
  node.node_slots = node.slots;
  figures["as_it_is"] = PartOfTheSet(node, 0.3, flags, cache);
  return figures;
}

// All is local and in memory: what the way through the cache costs.
Json Overhead(const LoaderOptions& set, const BenchFlags& flags, const std::string& cache) {
  LoaderOptions cached = set;
  cached.data.set_cache_dir(cache);
  cached.data.set_cache_bytes(int64_t{1} << 33);
  ReadEpochs(cached, flags.big_samples, 1, false, flags);
  Json rounds = Json::array();
  std::vector<double> ratios;
  for (int round = 0; round < 5; ++round) {
    const std::vector<Epoch> direct = ReadEpochs(set, flags.big_samples, 2, false, flags);
    const std::vector<Epoch> hot = ReadEpochs(cached, flags.big_samples, 2, false, flags);
    const auto images = static_cast<double>(flags.big_samples);
    rounds.push_back({{"direct_cpu_us_an_image", direct[1].cpu_s / images * 1e6},
                      {"cached_cpu_us_an_image", hot[1].cpu_s / images * 1e6}});
    ratios.push_back(hot[1].cpu_s / direct[1].cpu_s);
  }
  std::filesystem::remove_all(cache);
  std::sort(ratios.begin(), ratios.end());
  return {{"rounds", rounds}, {"cached_over_direct_median", ratios[ratios.size() / 2]}};
}

int Main(const std::vector<std::string>& args) {
  BenchFlags flags;
  FlagParser parser("weft_loader_cache_bench", "[flags]",
                    "Measures a loader's cache on local disk in front of a slow source.");
  parser.Int("samples", &flags.samples, "small samples of the slow source, a multiple of 64");
  parser.Int("latency-us", &flags.latency_us, "of each read of the source");
  parser.Int("megabytes-per-s", &flags.megabytes_per_s, "that all reads of the source share");
  parser.Int("big-samples", &flags.big_samples, "256 px pictures for the overhead");
  parser.String("report", &flags.report, "where the figures go");
  const ParsedFlags parsed = parser.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  const testing::TempDir dir;
  const LoaderOptions small = MakeSet(dir.path() + "/small", flags.samples, 48, 16);
  const LoaderOptions big = MakeSet(dir.path() + "/big", flags.big_samples, 256, 224);
  const std::string cache = dir.path() + "/cache";
  Json report;
  report["slow_source"] = SlowSource(small, flags, cache);
  report["part_of_the_set"] = PartsOfTheSet(small, flags, cache);
  report["one_of_two_nodes"] = OneOfTwoNodes(small, flags, cache);
  report["all_local"] = Overhead(big, flags, cache);
  std::printf("%s\n", report.dump(1).c_str());
  FileSystem* fs = PosixFileSystem();
  const bool written = fs->MakeDirs(ParentPath(flags.report)).ok() &&
                       WriteFileDurably(fs, flags.report, report.dump(1) + "\n").ok();
  return written ? 0 : 1;
}

}  // namespace
}  // namespace weft

int main(int argc, char** argv) { return weft::Main({argv + 1, argv + argc}); }
