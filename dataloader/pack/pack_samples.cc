#include "dataloader/pack/pack_samples.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>
#include <utility>

#include "cluster/base/file_system.h"
#include "cluster/base/hash.h"
#include "cluster/base/mutex.h"
#include "dataloader/data_set.h"
#include "dataloader/image_decode.h"
#include "dataloader/jpeg_codec.h"
#include "dataloader/manifest.h"
#include "dataloader/pack/jpeg_rewrite.h"
#include "dataloader/resize.h"
#include "dataloader/shard_index.h"
#include "dataloader/tar_writer.h"

namespace weft {
namespace {

// Samples that are cooked at a time, then written.
constexpr int64_t kBatch = 256;

struct PackedSample {
  std::string key;
  std::map<std::string, std::string> members;
  bool left_out = false;
};

struct Counts {
  std::atomic<int64_t> rewritten = 0;
  std::atomic<int64_t> resized = 0;
  std::atomic<int64_t> left_out = 0;
};

bool IsPictureName(std::string_view last) {
  return last == "jpg" || last == "jpeg" || last == "png" || last == "webp";
}

std::string FormatExtension(ImageFormat format) {
  if (format == ImageFormat::kPng) return "png";
  return format == ImageFormat::kWebp ? "webp" : "jpg";
}

// "a.b/c.d" -> "a.b/c_d": a dot in the base name would end the key.
std::string SafeKey(std::string_view key) {
  std::string safe(key);
  const size_t base = safe.find_last_of('/') + 1;
  std::replace(safe.begin() + static_cast<std::ptrdiff_t>(base), safe.end(), '.', '_');
  return safe.size() == base ? safe + "_" : safe;
}

std::vector<SamplePlace> PlacesOf(const ShardIndex& index) {
  std::vector<SamplePlace> places;
  for (int64_t i = 0; i < index.num_samples(); ++i)
    places.push_back({index.sample(i).begin, index.sample(i).size, index.sample(i).crc});
  return places;
}

class SamplePacker {
 public:
  SamplePacker(const PackSamplesOptions& options, const PackSamplesProgress& progress)
      : options_(options), progress_(progress) {}

  StatusOr<PackSamplesReport> Run() {
    WEFT_RETURN_IF_ERROR(Validate());
    WEFT_ASSIGN_OR_RETURN(set_, DataSet::Open(options_.sources, "SHARDS"));
    WEFT_RETURN_IF_ERROR(Files()->MakeDirs(options_.out));
    WEFT_RETURN_IF_ERROR(ClaimFolder());
    MakeOrder();
    const auto samples = static_cast<int64_t>(order_.size());
    report_.samples = samples;
    report_.shards = (samples + options_.samples_per_shard - 1) / options_.samples_per_shard;
    for (int64_t shard = 0; shard < report_.shards; ++shard) {
      const int64_t begin = shard * options_.samples_per_shard;
      const int64_t end = std::min(samples, begin + options_.samples_per_shard);
      const std::string path = ShardPath(shard);
      if (Files()->Exists(path)) {
        ++report_.shards_kept;
        progress_(end, samples);
        continue;
      }
      const Status status = WriteShard(path, begin, end);
      if (!status.ok()) return status.WithContext("while packing " + path);
    }
    WEFT_RETURN_IF_ERROR(WriteManifest());
    report_.rewritten = counts_.rewritten;
    report_.resized = counts_.resized;
    report_.left_out = counts_.left_out;
    WEFT_RETURN_IF_ERROR(WriteFileDurably(Files(), JoinPath(options_.out, "_done"),
                                          std::to_string(report_.shards) + " shards\n"));
    return report_;
  }

 private:
  static FileSystem* Files() { return PosixFileSystem(); }

  std::string ShardPath(int64_t shard) const {
    char number[40];
    std::snprintf(number, sizeof number, "-%06lld.tar", static_cast<long long>(shard));
    return JoinPath(options_.out, options_.prefix + number);
  }

  Status Validate() const {
    if (options_.out.empty()) return InvalidArgument("--out is missing: the folder of the shards");
    if (options_.samples_per_shard < 1) return InvalidArgument("--samples must be at least 1");
    if (options_.short_side < 0) return InvalidArgument("--short must be at least 0");
    if (options_.quality < 1 || options_.quality > 100)
      return InvalidArgument("--quality must be from 1 to 100");
    return OkStatus();
  }

  // What the bytes of the shards depend on.
  Status ClaimFolder() const {
    const nlohmann::ordered_json plan = {
        {"source", set_->manifest_hash()},
        {"samples", set_->num_samples()},
        {"prefix", options_.prefix},
        {"samples_per_shard", options_.samples_per_shard},
        {"seed", options_.seed},
        {"short", options_.short_side},
        {"quality", options_.short_side > 0 ? options_.quality : 0}};
    const std::string path = JoinPath(options_.out, "_pack");
    const std::string text = plan.dump(1) + "\n";
    if (!Files()->Exists(path)) return WriteFileDurably(Files(), path, text);
    WEFT_ASSIGN_OR_RETURN(const std::string found, Files()->ReadFile(path));
    if (found == text) return OkStatus();
    return FailedPrecondition(
        options_.out +
        " holds shards of another source or other options (its file _pack says "
        "which); give another --out, or remove the folder");
  }

  // All samples by a hash of their keys; equal keys in the order of the source.
  void MakeOrder() {
    std::vector<std::pair<uint64_t, int64_t>> keyed;
    for (int64_t id = 0; id < set_->num_samples(); ++id) {
      keyed.emplace_back(
          HashCombine(Mix64(static_cast<uint64_t>(options_.seed)), Fnv1a64(SafeKey(set_->key(id)))),
          id);
    }
    std::sort(keyed.begin(), keyed.end());
    order_.reserve(keyed.size());
    for (const auto& [hash, id] : keyed) order_.push_back(id);
  }

  // Equal keys lie together; a reader would take them as one sample, so the second is KEY_2, ...
  std::string KeyAt(int64_t place) const {
    const auto at = [this](int64_t i) {
      return SafeKey(set_->key(order_[static_cast<size_t>(i)]));
    };
    const std::string key = at(place);
    int64_t same = 1;
    while (place - same >= 0 && at(place - same) == key) ++same;
    return same == 1 ? key : key + "_" + std::to_string(same);
  }

  Status WriteShard(const std::string& path, int64_t begin, int64_t end) {
    WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<TarWriter> writer,
                          TarWriter::Create(Files(), path));
    for (int64_t first = begin; first < end; first += kBatch) {
      const int64_t last = std::min(end, first + kBatch);
      std::vector<PackedSample> batch(static_cast<size_t>(last - first));
      WEFT_RETURN_IF_ERROR(CookBatch(first, &batch));
      for (const PackedSample& sample : batch) {
        if (!sample.left_out) WEFT_RETURN_IF_ERROR(writer->AddSample(sample.key, sample.members));
      }
      progress_(last, static_cast<int64_t>(order_.size()));
    }
    return writer->Finish();
  }

  Status CookBatch(int64_t first, std::vector<PackedSample>* batch) {
    std::atomic<size_t> next = 0;
    Mutex mutex;
    Status failure;
    const auto work = [&] {
      ImageDecoder decoder;
      for (size_t i = next++; i < batch->size(); i = next++) {
        const Status status = Cook(first + static_cast<int64_t>(i), &decoder, &(*batch)[i]);
        MutexLock lock(mutex);
        if (!status.ok() && failure.ok()) failure = status;
      }
    };
    std::vector<std::thread> pool;
    for (int i = 1; i < options_.threads; ++i) pool.emplace_back(work);
    work();
    for (std::thread& thread : pool) thread.join();
    return failure;
  }

  Status Cook(int64_t place, ImageDecoder* decoder, PackedSample* sample) {
    const int64_t id = order_[static_cast<size_t>(place)];
    sample->key = KeyAt(place);
    for (const std::string& extension : set_->Extensions(id)) {
      std::string bytes;
      Status status = set_->ReadMember(id, std::array{extension}, &bytes);
      std::string name = PackedExtension(extension, bytes);
      if (status.ok() && SniffImageFormat(bytes) != ImageFormat::kUnknown)
        status = CookPicture(decoder, &name, &bytes);
      // Broken bytes, a picture that is not there: properties of the data.
      if (status.code() == StatusCode::kCorruption ||
          status.code() == StatusCode::kInvalidArgument) {
        sample->left_out = true;
        ++counts_.left_out;
        return OkStatus();
      }
      if (!status.ok()) return status.WithContext(set_->Describe(id));
      // A name that two members would share keeps the original.
      if (sample->members.contains(name)) name = extension;
      sample->members[name] = std::move(bytes);
    }
    return OkStatus();
  }

  Status CookPicture(ImageDecoder* decoder, std::string* name, std::string* bytes) {
    if (options_.short_side == 0) {
      if (!IsProgressiveJpeg(*bytes)) return OkStatus();
      WEFT_ASSIGN_OR_RETURN(*bytes, ToBaselineJpeg(*bytes));
      ++counts_.rewritten;
      return OkStatus();
    }
    Image image;
    WEFT_RETURN_IF_ERROR(decoder->Decode(*bytes, 1, &image));
    const int shorter = std::min(image.width, image.height);
    if (shorter > options_.short_side) {
      const auto scaled = [&](int side) {
        return static_cast<int>(
            std::lround(static_cast<double>(side) * options_.short_side / shorter));
      };
      image = ResizeImage(image, scaled(image.width), scaled(image.height), ResizeFilter::kBicubic);
      ++counts_.resized;
    }
    WEFT_ASSIGN_OR_RETURN(*bytes, EncodeJpeg(image, options_.quality));
    const size_t dot = name->rfind('.');
    *name = (dot == std::string::npos ? "" : name->substr(0, dot + 1)) + "jpg";
    return OkStatus();
  }

  Status WriteManifest() {
    report_.manifest = JoinPath(options_.out, options_.prefix + ".manifest");
    WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<ManifestWriter> writer,
                          ManifestWriter::Create(report_.manifest));
    for (int64_t shard = 0; shard < report_.shards; ++shard) {
      WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<ShardFile> file,
                            ShardFile::Open(ShardPath(shard)));
      std::optional<ShardIndex> index = ShardIndex::MapBeside(*file);
      if (!index) {
        WEFT_ASSIGN_OR_RETURN(index, ShardIndex::BuildWithChecksums(*file));
        WEFT_RETURN_IF_ERROR(index->WriteBeside(*file));
      }
      const std::vector<SamplePlace> places = PlacesOf(*index);
      const std::string name = file->path().substr(file->path().find_last_of('/') + 1);
      WEFT_RETURN_IF_ERROR(
          writer->Add({name, file->size(), places.size(), index->contents_crc()}, places));
    }
    return writer->Finish();
  }

  const PackSamplesOptions& options_;
  const PackSamplesProgress& progress_;
  std::unique_ptr<DataSet> set_;
  std::vector<int64_t> order_;
  Counts counts_;
  PackSamplesReport report_;
};

}  // namespace

std::string PackedExtension(const std::string& extension, const std::string& bytes) {
  const size_t dot = extension.rfind('.');
  const std::string prefix = dot == std::string::npos ? "" : extension.substr(0, dot + 1);
  const std::string last = extension.substr(prefix.size());
  const ImageFormat format = SniffImageFormat(bytes);
  if (format == ImageFormat::kUnknown)
    return last == "caption" || last == "text" ? prefix + "txt" : extension;
  if (IsPictureName(last)) return extension;
  const std::string picture = FormatExtension(format);
  return last == "image" || last == "img" ? prefix + picture : extension + "." + picture;
}

StatusOr<PackSamplesReport> PackSamples(const PackSamplesOptions& options,
                                        const PackSamplesProgress& progress) {
  return SamplePacker(options, progress).Run();
}

}  // namespace weft
