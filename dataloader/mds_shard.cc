#include "dataloader/mds_shard.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "cluster/base/file_system.h"

namespace weft {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint32_t kMaxConfig = 1U << 20;

// "list[jpeg]" and "jpeg_array" are pictures one after the other.
enum class ColumnShape { kPlain, kList, kArray };

struct Column {
  std::string extension;
  std::optional<uint32_t> fixed_size;
  ColumnShape shape = ColumnShape::kPlain;
};

// Reads the parts of one shard.
class MdsReader {
 public:
  MdsReader(const ShardBytes& bytes, ShardIndexBuilder* builder)
      : bytes_(bytes), builder_(builder) {}

  Status Run() {
    WEFT_ASSIGN_OR_RETURN(num_samples_, U32(0, bytes_.size()));
    WEFT_RETURN_IF_ERROR(ReadConfig());
    const std::string& path = bytes_.path();
    const size_t slash = path.find_last_of('/') + 1;
    // "shard.00000.mds.zstd" -> "shard.00000"
    const std::string stem =
        path.substr(slash, std::min(path.rfind(".mds"), path.size()) - slash) + "/";
    for (uint64_t i = 0; i < num_samples_; ++i) {
      // The offsets are far from the samples: read many of them at a time.
      WEFT_ASSIGN_OR_RETURN(const uint32_t begin, Offset(i));
      WEFT_ASSIGN_OR_RETURN(const uint32_t end, Offset(i + 1));
      if (begin < config_end_ || end < begin || end > bytes_.size())
        return builder_->Error(4 + 4 * i,
                               "sample " + std::to_string(i) + " lies outside the shard");
      WEFT_RETURN_IF_ERROR(builder_->BeginSample(stem + std::to_string(i), begin));
      WEFT_RETURN_IF_ERROR(AddSample(begin, end));
    }
    return OkStatus();
  }

 private:
  StatusOr<uint32_t> U32(uint64_t offset, uint64_t end) const {
    if (offset > end || end - offset < 4)
      return builder_->Error(offset, "a size is cut off: the sample is too short");
    uint32_t value = 0;
    WEFT_RETURN_IF_ERROR(bytes_.ReadAt(offset, 4, &value));
    return value;
  }

  StatusOr<uint32_t> Offset(uint64_t i) {
    constexpr uint64_t kPiece = 4096;
    if (offsets_.empty() || i < first_offset_ || i - first_offset_ >= offsets_.size()) {
      first_offset_ = i;
      offsets_.resize(std::min(kPiece, num_samples_ + 1 - i));
      WEFT_RETURN_IF_ERROR(bytes_.ReadAt(4 + 4 * i, 4 * offsets_.size(), offsets_.data()));
    }
    return offsets_[i - first_offset_];
  }

  Status ReadConfig() {
    const uint64_t begin = 4 + 4 * (uint64_t{num_samples_} + 1);
    WEFT_ASSIGN_OR_RETURN(config_end_, Offset(0));
    if (config_end_ < begin || config_end_ > bytes_.size() || config_end_ - begin > kMaxConfig)
      return builder_->Error(4, "the first sample's offset is wrong");
    std::string text(config_end_ - begin, '\0');
    WEFT_RETURN_IF_ERROR(bytes_.ReadAt(begin, text.size(), text.data()));
    const Json config = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    const auto list = [&config](const char* name) -> const Json* {
      const bool there = config.is_object() && config.contains(name) && config[name].is_array();
      return there ? &config[name] : nullptr;
    };
    const Json* names = list("column_names");
    const Json* encodings = list("column_encodings");
    const Json* sizes = list("column_sizes");
    if (names == nullptr || encodings == nullptr || sizes == nullptr ||
        names->size() != encodings->size() || names->size() != sizes->size() || names->empty()) {
      return builder_->Error(begin, "the shard's description (JSON) does not name its columns");
    }
    for (size_t i = 0; i < names->size(); ++i)
      WEFT_RETURN_IF_ERROR(AddColumn(begin, (*names)[i], (*encodings)[i], (*sizes)[i]));
    return OkStatus();
  }

  Status AddColumn(uint64_t at, const Json& name, const Json& encoding, const Json& size) {
    if (!name.is_string() || !encoding.is_string() ||
        !(size.is_null() || size.is_number_unsigned()))
      return builder_->Error(at, "a column's name, encoding or size is none");
    Column column;
    column.extension = name.get<std::string>();
    for (char& c : column.extension)
      c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    const auto code = encoding.get<std::string>();
    if (code == "pkl") {
      return InvalidArgument("shard " + bytes_.path() + ": column '" + column.extension +
                             "' holds pickled Python objects, which would run code: write it again "
                             "with another encoding (json, bytes, ...)");
    }
    if (code.starts_with("list[")) column.shape = ColumnShape::kList;
    if (code == "jpeg_array" || code == "jpegarray") column.shape = ColumnShape::kArray;
    if (size.is_number_unsigned()) {
      if (size.get<uint64_t>() > UINT32_MAX)
        return builder_->Error(at, "a column of 4 GiB or more");
      column.fixed_size = size.get<uint32_t>();
    }
    columns_.push_back(std::move(column));
    return OkStatus();
  }

  Status AddSample(uint64_t begin, uint64_t end) {
    sizes_.clear();
    uint64_t at = begin;
    for (const Column& column : columns_) {
      if (column.fixed_size) {
        sizes_.push_back(*column.fixed_size);
        continue;
      }
      WEFT_ASSIGN_OR_RETURN(const uint32_t size, U32(at, end));
      sizes_.push_back(size);
      at += 4;
    }
    for (size_t i = 0; i < columns_.size(); ++i) {
      if (sizes_[i] > end - at)
        return builder_->Error(at, "column '" + columns_[i].extension + "' has " +
                                       std::to_string(sizes_[i]) + " bytes, more than its sample");
      WEFT_RETURN_IF_ERROR(AddColumnOf(columns_[i], at, sizes_[i]));
      at += sizes_[i];
    }
    if (at != end) return builder_->Error(at, "a sample is longer than its columns");
    return OkStatus();
  }

  Status AddColumnOf(const Column& column, uint64_t begin, uint32_t size) {
    if (column.shape == ColumnShape::kPlain)
      return builder_->AddMember(column.extension, begin, size);
    const uint64_t end = begin + size;
    uint64_t at = begin;
    if (column.shape == ColumnShape::kList) {
      WEFT_ASSIGN_OR_RETURN(const uint32_t version, U32(at, end));
      if (version != 0) return builder_->Error(at, "a list of pictures of an unknown version");
      at += 4;
    }
    WEFT_ASSIGN_OR_RETURN(const uint32_t count, U32(at, end));
    at += 4;
    if (count > (end - at) / 4) return builder_->Error(at, "a list has more pictures than bytes");
    std::vector<uint32_t> sizes(count);
    WEFT_RETURN_IF_ERROR(bytes_.ReadAt(at, 4 * sizes.size(), sizes.data()));
    at += 4 * sizes.size();
    for (size_t k = 0; k < sizes.size(); ++k) {
      if (sizes[k] > end - at) return builder_->Error(at, "a picture of a list is cut off");
      const std::string prefix = k == 0 ? "" : std::to_string(k) + ".";
      WEFT_RETURN_IF_ERROR(builder_->AddMember(prefix + column.extension, at, sizes[k]));
      at += sizes[k];
    }
    if (at != end) return builder_->Error(at, "a list is longer than its pictures");
    return OkStatus();
  }

  const ShardBytes& bytes_;
  ShardIndexBuilder* builder_;
  uint32_t num_samples_ = 0;
  uint64_t config_end_ = 0;
  std::vector<Column> columns_;
  std::vector<uint32_t> offsets_;
  uint64_t first_offset_ = 0;
  std::vector<uint32_t> sizes_;
};

// Lower-case hex; "": OpenSSL does not know the algorithm.
std::string Digest(const std::string& algorithm, const std::string& bytes) {
  const EVP_MD* method = EVP_get_digestbyname(algorithm.c_str());
  unsigned char out[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  if (method == nullptr || EVP_Digest(bytes.data(), bytes.size(), out, &size, method, nullptr) != 1)
    return "";
  std::string hex;
  for (unsigned i = 0; i < size; ++i) {
    hex += "0123456789abcdef"[out[i] >> 4];
    hex += "0123456789abcdef"[out[i] & 15];
  }
  return hex;
}

// One "raw_data" or "zip_data" of index.json.
StatusOr<MdsShardEntry> ReadFileInfo(const Json& info, const std::string& folder) {
  if (!info.is_object() || !info.contains("basename") || !info["basename"].is_string() ||
      !info.contains("bytes") || !info["bytes"].is_number_unsigned()) {
    return Corruption("a shard has no basename or no bytes");
  }
  MdsShardEntry entry;
  entry.path = JoinPath(folder, info["basename"].get<std::string>());
  entry.bytes = info["bytes"].get<uint64_t>();
  if (info.contains("hashes") && info["hashes"].is_object()) {
    for (const auto& [algorithm, digest] : info["hashes"].items()) {
      if (digest.is_string()) entry.hashes.emplace_back(algorithm, digest.get<std::string>());
    }
  }
  return entry;
}

StatusOr<MdsShardEntry> ReadEntry(const Json& shard, const std::string& folder) {
  if (!shard.is_object() || !shard.contains("raw_data") || !shard.contains("samples") ||
      !shard["samples"].is_number_unsigned()) {
    return Corruption("a shard has no raw_data or no samples");
  }
  if (!shard.contains("format") || shard["format"] != "mds")
    return InvalidArgument("its shards have the format " +
                           (shard.contains("format") ? shard["format"].dump() : "null") +
                           "; of MosaicML's formats Weft reads \"mds\"");
  WEFT_ASSIGN_OR_RETURN(MdsShardEntry entry, ReadFileInfo(shard["raw_data"], folder));
  const bool zipped = shard.contains("zip_data") && shard["zip_data"].is_object();
  if (zipped && !PosixFileSystem()->Exists(entry.path)) {
    WEFT_ASSIGN_OR_RETURN(entry, ReadFileInfo(shard["zip_data"], folder));
    entry.compressed = true;
  }
  entry.samples = shard["samples"].get<uint64_t>();
  return entry;
}

}  // namespace

bool LooksLikeMds(const ShardBytes& bytes) {
  uint32_t count = 0;
  uint32_t first = 0;
  uint32_t last = 0;
  if (bytes.size() < 8 || bytes.size() > UINT32_MAX || !bytes.ReadAt(0, 4, &count).ok())
    return false;
  const uint64_t head = 4 + 4 * (uint64_t{count} + 1);
  if (head > bytes.size()) return false;
  return bytes.ReadAt(4, 4, &first).ok() && bytes.ReadAt(head - 4, 4, &last).ok() &&
         first >= head && last == bytes.size();
}

Status AddMdsSamples(const ShardBytes& bytes, ShardIndexBuilder* builder) {
  return MdsReader(bytes, builder).Run();
}

StatusOr<std::vector<MdsShardEntry>> ReadMdsIndex(const std::string& path) {
  WEFT_ASSIGN_OR_RETURN(const std::string text, PosixFileSystem()->ReadFile(path));
  const Json index = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!index.is_object() || !index.contains("shards") || !index["shards"].is_array())
    return Corruption(path + ": no list \"shards\": this is not the index of MDS shards");
  std::vector<MdsShardEntry> entries;
  for (const Json& shard : index["shards"]) {
    StatusOr<MdsShardEntry> entry = ReadEntry(shard, ParentPath(path));
    if (!entry.ok()) return entry.status().WithContext(path);
    entries.push_back(std::move(*entry));
  }
  return entries;
}

Status CheckMdsFile(const MdsShardEntry& entry) {
  WEFT_ASSIGN_OR_RETURN(const std::string bytes, PosixFileSystem()->ReadFile(entry.path));
  if (bytes.size() != entry.bytes)
    return Corruption(entry.path + " has " + std::to_string(bytes.size()) +
                      " bytes, index.json says " + std::to_string(entry.bytes));
  for (const auto& [algorithm, wanted] : entry.hashes) {
    const std::string found = Digest(algorithm, bytes);
    if (!found.empty() && found != wanted)
      return Corruption(entry.path + ": its " + algorithm + " is " + found + ", index.json says " +
                        wanted);
  }
  return OkStatus();
}

}  // namespace weft
