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
