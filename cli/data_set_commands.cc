#include "cli/data_set_commands.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <set>
#include <unordered_map>

#include "cli/flags.h"
#include "cluster/base/clock.h"
#include "cluster/base/file_system.h"
#include "cluster/base/text.h"
#include "dataloader/data_set.h"
#include "dataloader/energon.h"
#include "dataloader/image_decode.h"
#include "dataloader/json_records.h"
#include "dataloader/look_alike.h"
#include "dataloader/manifest.h"
#include "dataloader/mds_shard.h"
#include "dataloader/order.h"
#include "dataloader/sample_source.h"
#include "dataloader/shard_index.h"
#include "dataloader/shard_members.h"

namespace weft {
namespace {

// Indexes one shard, unless a fitting index with checksums is there.
Status IndexShard(const std::string& path, const std::string& folder, ManifestWriter* writer) {
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<ShardFile> file, ShardFile::Open(path));
  std::optional<ShardIndex> index = ShardIndex::MapBeside(*file);
  if (!index) {
    WEFT_ASSIGN_OR_RETURN(index, ShardIndex::BuildWithChecksums(*file));
    WEFT_RETURN_IF_ERROR(CheckEnergonIndex(path, *index));
    WEFT_RETURN_IF_ERROR(index->WriteBeside(*file));
  }
  if (writer == nullptr) return OkStatus();
  std::vector<SamplePlace> places;
  for (int64_t i = 0; i < index->num_samples(); ++i) {
    const IndexedSample& sample = index->sample(i);
    places.push_back({sample.begin, sample.size, sample.crc});
  }
  return writer->Add({std::filesystem::proximate(path, folder).string(), file->size(),
                      places.size(), index->contents_crc()},
                     places);
}

Status IndexShards(const std::vector<std::string>& patterns, const std::string& images,
                   const std::string& out) {
  std::unique_ptr<ManifestWriter> writer;
  if (!out.empty()) {
    WEFT_ASSIGN_OR_RETURN(writer, ManifestWriter::Create(out));
  }
  const TimePoint start = Clock::now();
  const std::vector<std::string> paths = ExpandShardPatterns(patterns);
  for (const std::string& path : paths) {
    if (!images.empty()) WEFT_RETURN_IF_ERROR(WriteImageFolder(path, images));
    WEFT_RETURN_IF_ERROR(IndexShard(path, ParentPath(out), writer.get()));
  }
  std::printf("%zu shards indexed in %s\n", paths.size(),
              HumanSeconds(ToSeconds(Clock::now() - start)).c_str());
  if (!writer) return OkStatus();
  WEFT_RETURN_IF_ERROR(writer->Finish());
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<Manifest> manifest, Manifest::Open(out));
  std::printf("%s: %lld samples, hash %s\n", out.c_str(),
              static_cast<long long>(manifest->num_samples()), manifest->hash().c_str());
  return OkStatus();
}

struct LintTotals {
  int64_t samples = 0;
  int64_t findings = 0;
  std::unordered_map<std::string, std::string> shard_of_key;
};

void Finding(const std::string& where, const std::string& what, const std::string& remedy,
             LintTotals* totals) {
  ++totals->findings;
  std::printf("%s: %s\n    %s\n", where.c_str(), what.c_str(), remedy.c_str());
}

// What the bytes of a picture are, if they are no picture; "" if they are one.
std::string WhyNoPicture(const std::string& bytes, const std::string& extension,
                         ImageDecoder* decoder, Image* image) {
  if (bytes.empty()) return "." + extension + " is empty";
  const size_t text = bytes.find_first_not_of(" \t\r\n");
  if (text != std::string::npos && bytes[text] == '<')
    return "." + extension + " is HTML or XML, not a picture";
  const ImageFormat format = SniffImageFormat(bytes);
  if (format == ImageFormat::kUnknown) return "." + extension + " is no JPEG, PNG or WebP";
  const Status status = decoder->Decode(bytes, 1, image);
  if (!status.ok()) return "." + extension + " does not decode: " + status.message();
  return "";
}

bool IsNamedOtherwise(const std::string& bytes, const std::string& extension) {
  const ImageFormat format = SniffImageFormat(bytes);
  const bool jpeg = extension == "jpg" || extension == "jpeg";
  return (jpeg && format != ImageFormat::kJpeg) ||
         (extension == "png" && format != ImageFormat::kPng) ||
         (extension == "webp" && format != ImageFormat::kWebp);
}

Status LintSample(const ShardFile& file, const ShardIndex& index, int64_t i,
                  const std::vector<std::string>& images, const std::string& text,
                  ImageDecoder* decoder, LookAlikes* look_alikes, LintTotals* totals) {
  const std::string key(index.key(i));
  const std::string where = file.path() + ", sample '" + key + "'";
  const auto [first, is_new] = totals->shard_of_key.emplace(key, file.path());
  if (!is_new)
    Finding(where, "the key is in " + first->second + " too",
            "harmless to training; exclusions by key take out both", totals);
  std::string bytes;
  for (const ShardMember& member : index.members(i)) {
    const std::string& extension = index.extension(member);
    const bool is_image = std::find(images.begin(), images.end(), extension) != images.end();
    if (!is_image && extension != text) continue;
    const Status read = ReadShardMember(file, index, member, &bytes);
    if (read.code() == StatusCode::kCorruption) {
      Finding(where, read.message(), "get the file, or exclude the sample: `weft data exclude`",
              totals);
      continue;
    }
    WEFT_RETURN_IF_ERROR(read);
    if (!is_image) {
      if (bytes.find_first_not_of(" \t\r\n") == std::string::npos)
        Finding(where, "the caption is empty", "exclude it: `weft data exclude`", totals);
      continue;
    }
    Image image;
    const std::string why = WhyNoPicture(bytes, extension, decoder, &image);
    if (why.empty()) look_alikes->Add(i, key, image);
    if (!why.empty()) {
      Finding(where, why, "training replaces it by a neighbour; exclude it: `weft data exclude`",
              totals);
    } else if (IsNamedOtherwise(bytes, extension)) {
      Finding(where, "." + extension + " is " + ImageFormatName(SniffImageFormat(bytes)),
              "harmless here: formats are told by their first bytes", totals);
    }
  }
  return OkStatus();
}

// What the tools that wrote the shards say about them in files beside them.
void LintNeighbours(const std::string& path, LintTotals* totals) {
  FileSystem* fs = PosixFileSystem();
  const std::string stem = path.substr(0, path.rfind('.'));
  if (fs->Exists(stem + ".parquet") && !fs->Exists(stem + "_stats.json")) {
    Finding(path, "img2dataset wrote no " + stem + "_stats.json: it did not finish this shard",
            "let img2dataset finish it (incremental mode), or remove the shard", totals);
  }
}

// MosaicML's index.json: sizes and hashes of its shards.
void LintMdsIndex(const std::string& path, LintTotals* totals) {
  const StatusOr<std::vector<MdsShardEntry>> entries = ReadMdsIndex(path);
  if (!entries.ok()) {
    Finding(path, entries.status().message(), "copy it again", totals);
    return;
  }
  for (const MdsShardEntry& entry : *entries) {
    const Status status = CheckMdsFile(entry);
    if (!status.ok()) Finding(entry.path, status.message(), "copy or write it again", totals);
  }
}

Status LintShard(const std::string& path, const std::vector<std::string>& images,
                 const std::string& text, LintTotals* totals) {
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<ShardFile> file, ShardFile::Open(path));
  WEFT_ASSIGN_OR_RETURN(const ShardIndex index,
                        ShardIndex::Build(*file, CutShards::kKeepWholeSamples));
  LintNeighbours(path, totals);
  const Status energon = CheckEnergonIndex(path, index);
  if (!energon.ok()) Finding(path, energon.message(), "Weft itself does not need it", totals);
  ImageDecoder decoder;
  LookAlikes look_alikes;
  for (int64_t i = 0; i < index.num_samples(); ++i)
    WEFT_RETURN_IF_ERROR(LintSample(*file, index, i, images, text, &decoder, &look_alikes, totals));
  if (look_alikes.count() > 0) {
    // A remark, no finding: nothing is wrong with these samples.
    std::printf(
        "%s: %lld pictures look like another in their chunk of 128 (first: '%s' like '%s')\n"
        "    neighbours stay together in training; `weft data pack` shuffles them over the whole "
        "set\n",
        path.c_str(), static_cast<long long>(look_alikes.count()), look_alikes.second().c_str(),
        look_alikes.first().c_str());
  }
  totals->samples += index.num_samples();
  if (!index.cut().ok()) {
    Finding(path, index.cut().message(),
            "copy or download it again; before it end " + std::to_string(index.num_samples()) +
                " whole samples",
            totals);
  }
  return OkStatus();
}

struct OrderFlags {
  int64_t seed = 0;
  int64_t slots = 1;
  int64_t batch = 0;
  int64_t lanes = 0;
  int64_t chunk = 128;
  int64_t window = 16;
  int64_t step = 0;
  int64_t steps = 1;
  bool prove = false;
};

void PrintOrder(const OrderFlags& flags, const DataSet& set, const SampleOrder& order) {
  std::printf("%8s %5s %5s %6s %12s  %s\n", "STEP", "SLOT", "ROW", "EPOCH", "SAMPLE", "KEY");
  for (int64_t step = flags.step; step < flags.step + flags.steps; ++step) {
    for (int64_t slot = 0; slot < flags.slots; ++slot) {
      for (int64_t row = 0; row < order.rows_per_slot(); ++row) {
        const SampleRef ref = order.At(step, slot, row);
        std::printf("%8lld %5lld %5lld %6llu %12llu  %s\n", static_cast<long long>(step),
                    static_cast<long long>(slot), static_cast<long long>(row),
                    static_cast<unsigned long long>(ref.epoch),
                    static_cast<unsigned long long>(ref.id),
                    std::string(set.key(static_cast<int64_t>(ref.id))).c_str());
      }
    }
  }
}

// Walks the steps that hold the first two epochs.
Status ProveExactlyOnce(const OrderFlags& flags, int64_t samples, const SampleOrder& order) {
  std::vector<std::vector<bool>> seen(2, std::vector<bool>(static_cast<size_t>(samples)));
  std::vector<int64_t> count(2);
  const int64_t steps = (2 * samples + flags.batch - 1) / flags.batch;
  for (int64_t step = 0; step < steps; ++step) {
    for (int64_t slot = 0; slot < flags.slots; ++slot) {
      for (int64_t row = 0; row < order.rows_per_slot(); ++row) {
        const SampleRef ref = order.At(step, slot, row);
        if (ref.epoch > 1) continue;
        if (seen[ref.epoch][ref.id])
          return Internal("sample " + std::to_string(ref.id) + " comes twice in epoch " +
                          std::to_string(ref.epoch));
        seen[ref.epoch][ref.id] = true;
        ++count[ref.epoch];
      }
    }
  }
  for (size_t epoch = 0; epoch < 2; ++epoch) {
    if (count[epoch] != samples)
      return Internal("epoch " + std::to_string(epoch) + " has " + std::to_string(count[epoch]) +
                      " of " + std::to_string(samples) + " samples");
  }
  std::printf("steps 0 to %lld: each of %lld samples comes exactly once in each of two epochs\n",
              static_cast<long long>(steps - 1), static_cast<long long>(samples));
  return OkStatus();
}

Status ShowOrder(const OrderFlags& flags, const std::vector<std::string>& shards) {
  if (flags.batch < 1) return InvalidArgument("--batch is missing: rows of a step over all slots");
  if (flags.step < 0 || flags.steps < 0)
    return InvalidArgument("--step and --steps must be at least 0");
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<DataSet> set, DataSet::Open(shards, "SHARDS"));
  OrderOptions options;
  options.seed = static_cast<uint64_t>(flags.seed);
  options.slots = flags.slots;
  options.global_batch = flags.batch;
  options.lanes = flags.lanes;
  options.chunk = flags.chunk;
  options.window = flags.window;
  WEFT_ASSIGN_OR_RETURN(const SampleOrder order,
                        SampleOrder::Create(options, {{"train", set->ShardSizes()}}));
  if (flags.prove) return ProveExactlyOnce(flags, set->num_samples(), order);
  PrintOrder(flags, *set, order);
  return OkStatus();
}

StatusOr<std::set<std::string>> ReadKeys(const std::string& path) {
  if (path.empty()) return InvalidArgument("--keys is missing: a file with a key a line");
  WEFT_ASSIGN_OR_RETURN(const std::string text, PosixFileSystem()->ReadFile(path));
  std::set<std::string> keys;
  for (std::string& line : Split(text, '\n')) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!line.empty()) keys.insert(std::move(line));
  }
  return keys;
}

Status ExcludeKeys(const std::string& path, const std::string& keys_path) {
  WEFT_ASSIGN_OR_RETURN(const std::set<std::string> keys, ReadKeys(keys_path));
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<Manifest> manifest, Manifest::Open(path));
  std::vector<std::pair<int64_t, int64_t>> samples;
  std::set<std::string> missing = keys;
  for (int64_t shard = 0; shard < static_cast<int64_t>(manifest->shards().size()); ++shard) {
    WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<ShardFile> file,
                          ShardFile::Open(manifest->ShardPath(shard)));
    std::optional<ShardIndex> index = ShardIndex::MapBeside(*file);
    if (!index) {
      WEFT_ASSIGN_OR_RETURN(index, ShardIndex::Build(*file));
    }
    for (int64_t i = 0; i < index->num_samples(); ++i) {
      const std::string key(index->key(i));
      if (!keys.contains(key)) continue;
      samples.emplace_back(shard, i);
      missing.erase(key);
    }
  }
  if (!missing.empty())
    return NotFound(std::to_string(missing.size()) + " of " + std::to_string(keys.size()) +
                    " keys are in no shard, as '" + *missing.begin() + "'; nothing was changed");
  WEFT_ASSIGN_OR_RETURN(const int64_t count, manifest->Exclude(std::move(samples)));
  std::printf("%lld samples excluded, %lld left, hash %s\n", static_cast<long long>(count),
              static_cast<long long>(manifest->num_samples()), manifest->hash().c_str());
  return OkStatus();
}

}  // namespace

int DataIndexCommand(const std::vector<std::string>& args) {
  std::string out;
  std::string images;
  FlagParser flags("weft data index", "SHARD... [flags]",
                   "Reads each shard once and writes SHARD.index beside it: keys, members and a "
                   "checksum of each sample.\n"
                   "With --out also one manifest of all of them, which a recipe's "
                   "data.train_shards can name. A shard whose\n"
                   "index fits is not read again.");
  flags.String("out", &out, "the manifest, NAME.manifest");
  flags.String("images", &images,
               "of JSON files: the folder of their pictures, if it is not the JSON's own (it is "
               "noted in NAME.json.images)");
  flags.Positional(1, SIZE_MAX);
  flags.Example("weft data index 'data/train-{000000..000007}.tar' --out data/train.manifest");
  const ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  const Status status = IndexShards(parsed.positional, images, out);
  return status.ok() ? 0 : ReportError("data index", status);
}

int DataLintCommand(const std::vector<std::string>& args) {
  std::string images = DataRecipe().image_extensions();
  std::string text = DataRecipe().text_extension();
  FlagParser flags("weft data lint", "SHARD... [flags]",
                   "Reads every sample and says what is wrong with it, and what to do: cut shards, "
                   "pictures that do not\n"
                   "decode or are HTML or empty, wrong extensions, empty captions, keys that come "
                   "twice. Exit code 1: something\n"
                   "was found.");
  flags.String("image-extensions", &images, "as in the recipe's data.image_extensions");
  flags.String("text-extension", &text, "as in the recipe's data.text_extension");
  flags.Positional(1, SIZE_MAX);
  const ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  LintTotals totals;
  for (const std::string& pattern : parsed.positional) {
    if (pattern.ends_with("index.json")) LintMdsIndex(pattern, &totals);
  }
  for (const std::string& path : ExpandShardPatterns(parsed.positional)) {
    const Status status = LintShard(path, LowerExtensions(images), text, &totals);
    if (!status.ok()) Finding(path, status.message(), "write or copy this shard again", &totals);
  }
  std::printf("%lld samples, %lld findings\n", static_cast<long long>(totals.samples),
              static_cast<long long>(totals.findings));
  return totals.findings == 0 ? 0 : 1;
}

int DataOrderCommand(const std::vector<std::string>& args) {
  OrderFlags order;
  FlagParser flags("weft data order", "SHARD...|MANIFEST --batch B [flags]",
                   "Prints which sample stands at which place of the training order, or proves "
                   "that each comes exactly once\nan epoch.");
  flags.Int("seed", &order.seed, "the recipe's seed");
  flags.Int("slots", &order.slots, "batch.slots");
  flags.Int("batch", &order.batch, "rows of a step over all slots");
  flags.Int("lanes", &order.lanes, "data.order.lanes; 0: Weft chooses");
  flags.Int("chunk", &order.chunk, "data.order.chunk");
  flags.Int("window", &order.window, "data.order.window");
  flags.Int("step", &order.step, "the first step");
  flags.Int("steps", &order.steps, "how many");
  flags.Bool("prove", &order.prove, "walk two epochs and count instead");
  flags.Positional(1, SIZE_MAX);
  const ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  const Status status = ShowOrder(order, parsed.positional);
  return status.ok() ? 0 : ReportError("data order", status);
}

int DataExcludeCommand(const std::vector<std::string>& args) {
  std::string keys;
  FlagParser flags("weft data exclude", "MANIFEST --keys FILE",
                   "Takes samples out of a data set without touching a shard: an overlay file is "
                   "written beside the manifest\n"
                   "and named in it. The manifest's hash changes, so a run that goes on says so.");
  flags.String("keys", &keys, "a file with a key a line");
  flags.Positional(1, 1);
  const ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  const Status status = ExcludeKeys(parsed.positional[0], keys);
  return status.ok() ? 0 : ReportError("data exclude", status);
}

}  // namespace weft
