// What a data set costs before its first batch: a manifest of many samples is opened and a batch located, and a tar is
// indexed with checksums beside `dd` on the same file.
//
//   weft_loader_index_bench [--samples 100000000] [--tar-mib 1024] [--dir DIR] [--report-dir build/reports]
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/flags.h"
#include "cluster/base/clock.h"
#include "cluster/base/file_system.h"
#include "cluster/base/hash.h"
#include "cluster/base/logging.h"
#include "dataloader/manifest.h"
#include "dataloader/order.h"
#include "dataloader/shard_index.h"
#include "dataloader/tar_writer.h"

namespace weft {
namespace {

using Json = nlohmann::ordered_json;

struct BenchOptions {
  std::string dir = "/tmp";
  std::string report_dir = "build/reports";
  int64_t samples = 100'000'000;
  int64_t tar_mib = 1024;
};

// A field of /proc/self/status in MiB.
double StatusMib(const std::string& field) {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    if (line.starts_with(field + ":")) return std::atof(line.c_str() + field.size() + 1) / 1024;
  }
  return 0;
}

double ThreadCpuMs() {
  timespec time = {};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) * 1e-6;
}

// Drops the file's clean pages from the page cache.
void DropPages(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  ::fdatasync(fd);
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  ::close(fd);
}

// Shards of uneven sizes about 9,500, with places that look like a real set's.
Status WriteSyntheticManifest(const std::string& path, int64_t samples) {
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<ManifestWriter> writer, ManifestWriter::Create(path));
  std::vector<SamplePlace> places;
  for (int64_t shard = 0, left = samples; left > 0; ++shard) {
    const uint64_t draw = Mix64(static_cast<uint64_t>(shard) + 1);
    const auto count = std::min(left, static_cast<int64_t>(9000 + draw % 1001));
    places.clear();
    uint64_t offset = 0;
    for (int64_t i = 0; i < count; ++i) {
      const auto size =
          static_cast<uint32_t>(20'000 + Mix64(draw + static_cast<uint64_t>(i)) % 20'000);
      places.push_back({offset, size, static_cast<uint32_t>(draw)});
      offset += size;
    }
    char name[32];
    std::snprintf(name, sizeof name, "train-%06lld.tar", static_cast<long long>(shard));
    WEFT_RETURN_IF_ERROR(writer->Add(
        {name, offset, static_cast<uint64_t>(count), static_cast<uint32_t>(draw)}, places));
    left -= count;
  }
  return writer->Finish();
}

struct Located {
  double ms = 0;
  double cpu_ms = 0;
  uint64_t sum = 0;
};

// A whole batch: position -> sample -> shard, offset, size.
Located LocateBatch(const Manifest& manifest, const SampleOrder& order, int64_t step) {
  Located result;
  const double cpu_start = ThreadCpuMs();
  const TimePoint start = Clock::now();
  for (int64_t slot = 0; slot < 8; ++slot) {
    for (const SampleRef& ref : order.Rows(step, slot)) {
      const StatusOr<LocatedSample> sample = manifest.Locate(static_cast<int64_t>(ref.id));
      WEFT_CHECK(sample.ok()) << sample.status().message();
      result.sum +=
          sample->place.offset + sample->place.size + static_cast<uint64_t>(sample->shard);
    }
  }
  result.ms = ToSeconds(Clock::now() - start) * 1e3;
  result.cpu_ms = ThreadCpuMs() - cpu_start;
  return result;
}

// Pages of the places that are in the page cache after a cold batch, and chunks that the batch touched.
Status MeasureCold(const Manifest& manifest, const SampleOrder& order, const std::string& places,
                   Json* json) {
  DropPages(places);
  const Located cold = LocateBatch(manifest, order, 1'000'003);
  std::set<std::pair<int64_t, int64_t>> chunks;
  for (int64_t slot = 0; slot < 8; ++slot) {
    for (int64_t row = 0; row < 512; ++row) {
      const LocatedSample sample =
          manifest.Find(static_cast<int64_t>(order.At(1'000'003, slot, row).id));
      chunks.insert({sample.shard, sample.index / 128});
    }
  }
  const int fd = ::open(places.c_str(), O_RDONLY | O_CLOEXEC);
  const auto size = static_cast<size_t>(::lseek(fd, 0, SEEK_END));
  void* map = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  ::close(fd);
  if (map == MAP_FAILED) return Unavailable("map " + places);
  std::vector<unsigned char> resident(size / 4096 + 1);
  ::mincore(map, size, resident.data());
  ::munmap(map, size);
  (*json)["cold_batch_ms"] = cold.ms;
  (*json)["cold_chunks"] = chunks.size();
  (*json)["cold_pages_read"] =
      std::count_if(resident.begin(), resident.end(), [](unsigned char page) { return page & 1; });
  return OkStatus();
}

StatusOr<Json> MeasureManifest(const BenchOptions& options) {
  const std::string path = JoinPath(options.dir, "weft-bench.manifest");
  const std::string places = path + ".places";
  std::printf("writing a manifest of %lld samples\n", static_cast<long long>(options.samples));
  WEFT_RETURN_IF_ERROR(WriteSyntheticManifest(path, options.samples));
  Json json;
  std::unique_ptr<Manifest> manifest;
  double open_ms = 1e9;
  for (int round = 0; round < 5; ++round) {
    manifest.reset();
    const TimePoint start = Clock::now();
    WEFT_ASSIGN_OR_RETURN(manifest, Manifest::Open(path));
    open_ms = std::min(open_ms, ToSeconds(Clock::now() - start) * 1e3);
    if (round == 0) json["open_first_ms"] = ToSeconds(Clock::now() - start) * 1e3;
  }
  OrderOptions order_options;
  order_options.slots = 8;
  order_options.global_batch = 4096;
  const TimePoint start = Clock::now();
  WEFT_ASSIGN_OR_RETURN(const SampleOrder order,
                        SampleOrder::Create(order_options, {{"train", manifest->ShardSizes()}}));
  json["samples"] = manifest->num_samples();
  json["shards"] = manifest->shards().size();
  json["open_ms"] = open_ms;
  json["order_ms"] = ToSeconds(Clock::now() - start) * 1e3;
  WEFT_RETURN_IF_ERROR(MeasureCold(*manifest, order, places, &json));
  // Warm: all places are in the page cache.
  WEFT_RETURN_IF_ERROR(PosixFileSystem()->ReadFile(path).status());
  std::vector<char> buffer(size_t{8} << 20);
  std::ifstream file(places, std::ios::binary);
  while (file.read(buffer.data(), static_cast<std::streamsize>(buffer.size()))) {
  }
  WEFT_ASSIGN_OR_RETURN(manifest, Manifest::Open(path));
  json["warm_first_batch_ms"] = LocateBatch(*manifest, order, 0).ms;
  std::vector<double> times;
  std::vector<double> cpu_times;
  uint64_t sum = 0;
  double rss = 0;
  for (int64_t step = 1; step <= 400; ++step) {
    const Located batch = LocateBatch(*manifest, order, step);
    times.push_back(batch.ms);
    cpu_times.push_back(batch.cpu_ms);
    sum += batch.sum;
    rss = std::max(rss, StatusMib("VmRSS"));
  }
  std::sort(times.begin(), times.end());
  std::sort(cpu_times.begin(), cpu_times.end());
  json["warm_batch_ms_best"] = times[0];
  json["warm_batch_cpu_ms_best"] = cpu_times[0];
  json["warm_batch_cpu_ms_median"] = cpu_times[cpu_times.size() / 2];
  json["warm_batch_ms_median"] = times[times.size() / 2];
  json["warm_batch_ms_p95"] = times[times.size() * 95 / 100];
  json["resident_mib"] = rss;
  json["checksum"] = sum;
  for (const std::string& done : {path, places})
    WEFT_RETURN_IF_ERROR(PosixFileSystem()->Remove(done));
  return json;
}

// Samples of a picture of 37 kB, a caption and a JSON, as img2dataset writes them.
Status WriteTar(const std::string& path, int64_t bytes) {
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<TarWriter> writer,
                        TarWriter::Create(PosixFileSystem(), path));
  std::string picture(37'000, '\0');
  for (size_t i = 0; i < picture.size(); i += 8) {
    const uint64_t word = Mix64(i);
    std::copy_n(reinterpret_cast<const char*>(&word), std::min<size_t>(8, picture.size() - i),
                &picture[i]);
  }
  const std::string caption(80, 'c');
  const std::string json(600, 'j');
  for (int64_t i = 0, written = 0; written < bytes; ++i, written += 41'000) {
    char key[16];
    std::snprintf(key, sizeof key, "%09lld", static_cast<long long>(i));
    WEFT_RETURN_IF_ERROR(
        writer->AddSample(key, {{"jpg", picture}, {"json", json}, {"txt", caption}}));
  }
  return writer->Finish();
}

StatusOr<Json> MeasureIndexing(const BenchOptions& options) {
  const std::string path = JoinPath(options.dir, "weft-bench.tar");
  std::printf("writing a tar of %lld MiB\n", static_cast<long long>(options.tar_mib));
  WEFT_RETURN_IF_ERROR(WriteTar(path, options.tar_mib << 20));
  const std::string dd = "dd if='" + path + "' of=/dev/null bs=1M status=none";
  std::vector<double> ratios;
  double best_dd = 0;
  double best_index = 0;
  Json json;
  // In turns, so that what else the machine does meets both.
  for (int round = 0; round < 7; ++round) {
    DropPages(path);
    TimePoint start = Clock::now();
    if (std::system(dd.c_str()) != 0) return Unavailable("dd failed on " + path);
    const double dd_seconds = ToSeconds(Clock::now() - start);
    DropPages(path);
    start = Clock::now();
    WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<ShardFile> file, ShardFile::Open(path));
    WEFT_ASSIGN_OR_RETURN(const ShardIndex index, ShardIndex::BuildWithChecksums(*file));
    WEFT_RETURN_IF_ERROR(index.WriteBeside(*file));
    const double seconds = ToSeconds(Clock::now() - start);
    ratios.push_back(dd_seconds / seconds);
    const double megabytes = static_cast<double>(file->size()) / 1e6;
    best_dd = std::max(best_dd, megabytes / dd_seconds);
    best_index = std::max(best_index, megabytes / seconds);
    json["bytes"] = file->size();
    json["samples"] = index.num_samples();
    json["rounds"].push_back(
        {{"dd_mb_s", megabytes / dd_seconds}, {"index_mb_s", megabytes / seconds}});
  }
  std::sort(ratios.begin(), ratios.end());
  // What both reach when nothing else is in the way.
  json["share_of_dd_best"] = best_index / best_dd;
  json["share_of_dd_median"] = ratios[ratios.size() / 2];
  json["share_of_dd_worst"] = ratios[0];
  for (const std::string& done : {path, path + ".index"})
    WEFT_RETURN_IF_ERROR(PosixFileSystem()->Remove(done));
  return json;
}

Status Report(const BenchOptions& options, const std::string& name, const Json& json) {
  std::printf("%s\n", json.dump(1).c_str());
  WEFT_RETURN_IF_ERROR(PosixFileSystem()->MakeDirs(options.report_dir));
  return WriteFileDurably(PosixFileSystem(), JoinPath(options.report_dir, name),
                          json.dump(1) + "\n");
}

Status Run(const BenchOptions& options) {
  if (options.samples > 0) {
    WEFT_ASSIGN_OR_RETURN(const Json json, MeasureManifest(options));
    WEFT_RETURN_IF_ERROR(Report(options, "loader-manifest.json", json));
  }
  if (options.tar_mib > 0) {
    WEFT_ASSIGN_OR_RETURN(const Json json, MeasureIndexing(options));
    WEFT_RETURN_IF_ERROR(Report(options, "loader-index.json", json));
  }
  return OkStatus();
}

int Main(const std::vector<std::string>& args) {
  BenchOptions options;
  FlagParser flags("weft_loader_index_bench", "[flags]",
                   "Measures opening a large manifest, locating batches, and indexing a tar.");
  flags.Int("samples", &options.samples,
            "of the synthetic manifest (16 bytes each); 0: leave it out");
  flags.Int("tar-mib", &options.tar_mib, "MiB of the tar; 0: leave it out");
  flags.String("dir", &options.dir, "folder for both");
  flags.String("report-dir", &options.report_dir,
               "folder for loader-manifest.json and loader-index.json");
  const ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  const Status status = Run(options);
  return status.ok() ? 0 : ReportError("weft_loader_index_bench", status);
}

}  // namespace
}  // namespace weft

int main(int argc, char** argv) { return weft::Main({argv + 1, argv + argc}); }
