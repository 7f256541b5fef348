// Where the loader's time goes: images per second and thread CPU time an image for each stage on real shards, one thread.
//
//   weft_loader_bench --vocabulary FILE [--size 64] [--context 77] [--images 4000] [--json FILE] SHARDS...
#include <cstdio>
#include <ctime>
#include <functional>
#include <nlohmann/json.hpp>

#include "cli/flags.h"
#include "cluster/base/clock.h"
#include "cluster/base/file_system.h"
#include "cluster/base/philox.h"
#include "dataloader/augment.h"
#include "dataloader/bpe_tokenizer.h"
#include "dataloader/data_set.h"
#include "dataloader/loader.h"

namespace weft {
namespace {

struct BenchOptions {
  std::vector<std::string> shards;
  std::string vocabulary;
  std::string json;
  int64_t size = 64;
  int64_t context = 77;
  int64_t images = 4000;
};

struct Stage {
  std::string name;
  double cpu_us = 0;
  double images_per_second = 0;
};

double CpuSeconds(clockid_t clock) {
  timespec time = {};
  ::clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// CPU time an image of `work`, the best of three rounds.
Stage Measure(const std::string& name, int64_t images, const std::function<void(int64_t)>& work) {
  double best = 1e30;
  for (int round = 0; round < 3; ++round) {
    const double start = CpuSeconds(CLOCK_THREAD_CPUTIME_ID);
    for (int64_t i = 0; i < images; ++i) work(i);
    best = std::min(best, CpuSeconds(CLOCK_THREAD_CPUTIME_ID) - start);
  }
  const double each = best / static_cast<double>(images);
  return {name, each * 1e6, 1 / each};
}

LoaderOptions MakeLoaderOptions(const BenchOptions& options) {
  LoaderOptions loader;
  for (const std::string& shard : options.shards) loader.data.add_train_shards(shard);
  loader.data.set_vocabulary(options.vocabulary);
  loader.batch.set_micro_batch_size(64);
  loader.image_size = static_cast<int>(options.size);
  loader.context_length = static_cast<int>(options.context);
  loader.slots = {0};
  loader.end_step = options.images / 64;
  return loader;
}

// The whole loader with one decoding thread: CPU time of the process, wall time.
StatusOr<Stage> MeasureLoader(const BenchOptions& options) {
  const LoaderOptions loader_options = MakeLoaderOptions(options);
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<Loader> loader, Loader::Open(loader_options));
  const double start = CpuSeconds(CLOCK_PROCESS_CPUTIME_ID);
  for (int64_t step = 0; step < loader_options.end_step; ++step) {
    WEFT_ASSIGN_OR_RETURN(MicroBatch batch, loader->Next());
    loader->Recycle(std::move(batch));
  }
  const double each = (CpuSeconds(CLOCK_PROCESS_CPUTIME_ID) - start) /
                      static_cast<double>(64 * loader_options.end_step);
  return Stage{"loader, one thread", each * 1e6, 1 / each};
}

Status Run(const BenchOptions& options, std::vector<Stage>* stages) {
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<DataSet> set,
                        DataSet::Open(options.shards, "SHARDS"));
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<BpeVocabulary> vocabulary,
                        BpeVocabulary::Load(options.vocabulary, 0));
  const std::vector<std::string> image_extensions = {"jpg", "png", "jpeg", "webp"};
  const std::vector<std::string> text_extensions = {"txt"};
  const auto images = static_cast<size_t>(std::min(options.images, set->num_samples()));
  std::vector<std::string> bytes(images);
  std::vector<std::string> texts(images);
  for (size_t i = 0; i < images; ++i) {
    WEFT_RETURN_IF_ERROR(set->ReadMember(static_cast<int64_t>(i), image_extensions, &bytes[i]));
    WEFT_RETURN_IF_ERROR(set->ReadMember(static_cast<int64_t>(i), text_extensions, &texts[i]));
  }
  std::string buffer;
  ImageDecoder decoder;
  ImageCooker cooker;
  BpeTokenizer tokenizer(*vocabulary);
  Image image;
  const int size = static_cast<int>(options.size);
  const int context = static_cast<int>(options.context);
  std::vector<uint8_t> planes(3 * static_cast<size_t>(size) * static_cast<size_t>(size));
  std::vector<int32_t> ids(static_cast<size_t>(context));
  const AugmentRecipe recipe;
  const KeyedRandom random(1, "augment:train", 0);
  int64_t failures = 0;
  const auto count = static_cast<int64_t>(images);
  const auto at = [](int64_t i) { return static_cast<size_t>(i); };
  stages->push_back(Measure("read both members", count, [&](int64_t i) {
    failures += !set->ReadMember(i, image_extensions, &buffer).ok();
    failures += !set->ReadMember(i, text_extensions, &buffer).ok();
  }));
  stages->push_back(Measure("decode only", count, [&](int64_t i) {
    failures += !decoder.Decode(bytes[at(i)], 1, &image).ok();
  }));
  stages->push_back(Measure("decode, crop, resize", count, [&](int64_t i) {
    failures += !cooker
                     .CookForTraining(bytes[at(i)], recipe, random, static_cast<uint64_t>(i), size,
                                      planes.data())
                     .ok();
  }));
  stages->push_back(Measure("tokenize", count, [&](int64_t i) {
    tokenizer.EncodeInto(texts[at(i)], context, ids.data());
  }));
  if (failures > 0)
    return Corruption(std::to_string(failures) + " failures: these shards hold bad samples");
  WEFT_ASSIGN_OR_RETURN(const Stage loader, MeasureLoader(options));
  stages->push_back(loader);
  return OkStatus();
}

int Main(const std::vector<std::string>& args) {
  BenchOptions options;
  FlagParser flags("weft_loader_bench", "SHARDS... [flags]",
                   "Measures the data loader's stages on shards, one thread each.");
  flags.String("vocabulary", &options.vocabulary, "vocabulary file");
  flags.String("json", &options.json, "file that the figures are written to");
  flags.Int("size", &options.size, "side of the pixels that come out");
  flags.Int("context", &options.context, "tokens of a caption");
  flags.Int("images", &options.images, "images of a round");
  flags.Positional(1, 1000);
  ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  options.shards = std::move(parsed.positional);
  std::vector<Stage> stages;
  const Status status = Run(options, &stages);
  if (!status.ok()) return ReportError("weft_loader_bench", status);
  nlohmann::ordered_json json;
  for (const Stage& stage : stages) {
    std::printf("%-22s %8.1f us an image %10.0f images/s\n", stage.name.c_str(), stage.cpu_us,
                stage.images_per_second);
    json[stage.name] = {{"cpu_us", stage.cpu_us}, {"images_per_second", stage.images_per_second}};
  }
  if (options.json.empty()) return 0;
  const Status written = WriteFileDurably(PosixFileSystem(), options.json, json.dump(1) + "\n");
  return written.ok() ? 0 : ReportError("weft_loader_bench", written);
}

}  // namespace
}  // namespace weft

int main(int argc, char** argv) { return weft::Main({argv + 1, argv + argc}); }
