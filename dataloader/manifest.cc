#include "dataloader/manifest.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

#include "cluster/base/hash.h"
#include "cluster/base/text.h"

namespace weft {
namespace {

constexpr char kHead[] = "weft-manifest-file 1";
constexpr char kOverlayHead[] = "weft-exclude 1";
constexpr char kPlacesMagic[] = "WEFTPLC1";
constexpr uint64_t kPage = PagedFile::kPage;

std::string PlacesPath(const std::string& path) { return path + ".places"; }

uint64_t PlacesBytes(uint64_t samples) {
  return (samples * sizeof(SamplePlace) + kPage - 1) / kPage * kPage;
}

std::string BaseName(const std::string& path) { return path.substr(path.find_last_of('/') + 1); }

bool ParseNumber(const std::string& text, uint64_t* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size();
}

// Lines, and last "end CRC" over them.
std::string WithEnd(const std::string& lines) {
  return lines + "end\t" + std::to_string(Crc32c(lines.data(), lines.size())) + "\n";
}

Status CheckEnd(const std::string& path, const std::string& text, size_t* end) {
  *end = text.rfind("end\t");
  if (*end == std::string::npos || WithEnd(text.substr(0, *end)) != text)
    return Corruption(path +
                      ": its last line does not fit the others: the file was cut or changed; "
                      "make it again with `weft data index`");
  return OkStatus();
}

std::string ShardLine(const ManifestShard& shard) {
  return "shard\t" + shard.path + '\t' + std::to_string(shard.bytes) + '\t' +
         std::to_string(shard.samples) + '\t' + std::to_string(shard.contents_crc) + '\n';
}

std::string ManifestText(const std::vector<ManifestShard>& shards,
                         const std::vector<ManifestOverlay>& overlays) {
  std::string lines = std::string(kHead) + "\n";
  for (const ManifestShard& shard : shards) lines += ShardLine(shard);
  for (const ManifestOverlay& overlay : overlays) {
    lines += (overlay.column.empty() ? "exclude\t" : "column\t") + overlay.path + '\t' +
             std::to_string(overlay.samples) + '\t' + overlay.sha256;
    lines += (overlay.column.empty() ? "" : '\t' + overlay.column) + '\n';
  }
  return WithEnd(lines);
}

}  // namespace

bool IsManifestPath(const std::string& path) { return path.ends_with(".manifest"); }

std::string ManifestHash(std::span<const ManifestShard> shards) {
  std::string text = "weft-manifest 1\n";
  for (const ManifestShard& shard : shards) {
    text += BaseName(shard.path) + '\t' + std::to_string(shard.bytes) + '\t' +
            std::to_string(shard.samples) + '\t' + std::to_string(shard.contents_crc) + '\n';
  }
  return Sha256Hex(text);
}

StatusOr<std::unique_ptr<ManifestWriter>> ManifestWriter::Create(const std::string& path) {
  if (!IsManifestPath(path))
    return InvalidArgument("a manifest is named NAME.manifest, not '" + path + "'");
  FileSystem* fs = PosixFileSystem();
  const std::string part = PlacesPath(path) + ".part";
  if (fs->Exists(part)) WEFT_RETURN_IF_ERROR(fs->Remove(part));
  WEFT_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> places, fs->CreateExclusive(part));
  std::string head(kPage, '\0');
  head.replace(0, 8, kPlacesMagic);
  WEFT_RETURN_IF_ERROR(places->Append(head));
  return std::unique_ptr<ManifestWriter>(new ManifestWriter(path, std::move(places)));
}

Status ManifestWriter::Add(const ManifestShard& shard, std::span<const SamplePlace> places) {
  if (shard.path.find_first_of("\t\n") != std::string::npos)
    return InvalidArgument("shard '" + shard.path + "': a tab or line break in a shard's name");
  shards_.push_back(shard);
  std::string bytes(PlacesBytes(places.size()), '\0');
  if (!places.empty()) std::memcpy(bytes.data(), places.data(), places.size_bytes());
  return places_->Append(bytes);
}

Status ManifestWriter::Finish() {
  FileSystem* fs = PosixFileSystem();
  // The last page says whose places these are.
  WEFT_RETURN_IF_ERROR(places_->Append(ManifestHash(shards_)));
  WEFT_RETURN_IF_ERROR(places_->Sync());
  WEFT_RETURN_IF_ERROR(places_->Close());
  WEFT_RETURN_IF_ERROR(fs->Rename(PlacesPath(path_) + ".part", PlacesPath(path_)));
  return WriteFileDurably(fs, path_, ManifestText(shards_, {}));
}

StatusOr<std::unique_ptr<Manifest>> Manifest::Open(const std::string& path) {
  WEFT_ASSIGN_OR_RETURN(const std::string text, PosixFileSystem()->ReadFile(path));
  std::unique_ptr<Manifest> manifest(new Manifest(path));
  WEFT_RETURN_IF_ERROR(manifest->Parse(text));
  manifest->Finish();
  WEFT_RETURN_IF_ERROR(manifest->OpenPlaces());
  return manifest;
}

Status Manifest::Parse(const std::string& text) {
  if (text.compare(0, sizeof kHead, std::string(kHead) + "\n") != 0)
    return Corruption(path_ + " is no manifest of Weft (its first line is not '" + kHead + "')");
  size_t end = 0;
  WEFT_RETURN_IF_ERROR(CheckEnd(path_, text, &end));
  int64_t line = 1;
  for (size_t begin = sizeof kHead; begin < end; ++line) {
    const size_t stop = text.find('\n', begin);
    const Status status = ParseLine(Split({text.data() + begin, stop - begin}, '\t'));
    if (!status.ok()) return status.WithContext(path_ + ", line " + std::to_string(line + 1));
    begin = stop + 1;
  }
  return OkStatus();
}

Status Manifest::ParseLine(const std::vector<std::string>& fields) {
  if (fields.size() == 5 && fields[0] == "shard") {
    ManifestShard shard;
    uint64_t crc = 0;
    shard.path = fields[1];
    if (!ParseNumber(fields[2], &shard.bytes) || !ParseNumber(fields[3], &shard.samples) ||
        !ParseNumber(fields[4], &crc) || crc > UINT32_MAX || shard.samples > uint64_t{1} << 40) {
      return Corruption("numbers that are none");
    }
    shard.contents_crc = static_cast<uint32_t>(crc);
    shards_.push_back(std::move(shard));
    first_sample_.push_back(first_sample_.back() + shards_.back().samples);
    return OkStatus();
  }
  if (fields.size() == 4 && fields[0] == "exclude") {
    ManifestOverlay overlay{fields[1], 0, fields[3], ""};
    if (!ParseNumber(fields[2], &overlay.samples)) return Corruption("a number that is none");
    WEFT_RETURN_IF_ERROR(ReadOverlay(overlay));
    overlays_.push_back(std::move(overlay));
    return OkStatus();
  }
  if (fields.size() == 5 && fields[0] == "column") {
    ManifestOverlay overlay{fields[1], 0, fields[3], fields[4]};
    if (!ParseNumber(fields[2], &overlay.samples)) return Corruption("a number that is none");
    WEFT_RETURN_IF_ERROR(OpenColumn(overlay));
    overlays_.push_back(std::move(overlay));
    return OkStatus();
  }
  return Corruption("neither a shard nor an overlay: '" + Join(fields, " ") + "'");
}

Status Manifest::ReadOverlay(const ManifestOverlay& overlay) {
  const std::string path = JoinPath(ParentPath(path_), overlay.path);
  WEFT_ASSIGN_OR_RETURN(const std::string text, PosixFileSystem()->ReadFile(path));
  if (Sha256Hex(text) != overlay.sha256)
    return Corruption(path + " is not the overlay that the manifest was made with");
  const std::vector<std::string> lines = Split(text, '\n');
  uint64_t count = 0;
  for (size_t i = 1; i < lines.size(); ++i) {
    const std::vector<std::string> fields = Split(lines[i], '\t');
    uint64_t shard = 0;
    uint64_t index = 0;
    if (fields.size() != 2) continue;
    if (!ParseNumber(fields[0], &shard) || !ParseNumber(fields[1], &index) ||
        shard >= shards_.size() || index >= shards_[shard].samples) {
      return Corruption(path + ", line " + std::to_string(i + 1) + ": no such sample");
    }
    excluded_.push_back(first_sample_[shard] + index);
    ++count;
  }
  if (lines[0] != kOverlayHead || count != overlay.samples)
    return Corruption(path + " is no list of excluded samples");
  return OkStatus();
}

Status Manifest::OpenColumn(const ManifestOverlay& overlay) {
  const std::string path = JoinPath(ParentPath(path_), overlay.path);
  std::vector<uint64_t> samples;
  for (const ManifestShard& shard : shards_) samples.push_back(shard.samples);
  WEFT_ASSIGN_OR_RETURN(std::unique_ptr<ColumnOverlay> column,
                        ColumnOverlay::Open(path, overlay.sha256, samples));
  if (column->name() != overlay.column || column->num_values() != overlay.samples)
    return Corruption(path + " is another column than the manifest says");
  columns_.push_back(std::move(column));
  return OkStatus();
}

void Manifest::Finish() {
  std::sort(excluded_.begin(), excluded_.end());
  excluded_.erase(std::unique(excluded_.begin(), excluded_.end()), excluded_.end());
  hash_ = ManifestHash(shards_);
  if (!overlays_.empty()) {
    std::string text = "weft-manifest 2\n" + hash_ + "\n";
    for (const ManifestOverlay& overlay : overlays_)
      text += (overlay.column.empty() ? "exclude " : "column " + overlay.column + " ") +
              overlay.sha256 + "\n";
    hash_ = Sha256Hex(text);
  }
  shard_of_ = RangeFinder(first_sample_);
  first_byte_.assign(1, kPage);
  for (const ManifestShard& shard : shards_)
    first_byte_.push_back(first_byte_.back() + PlacesBytes(shard.samples));
}

Status Manifest::OpenPlaces() {
  const std::string path = PlacesPath(path_);
  WEFT_ASSIGN_OR_RETURN(places_, PagedFile::Open(path));
  const std::string base = ManifestHash(shards_);
  std::string magic(8, '\0');
  std::string owner(base.size(), '\0');
  if (places_->size() == first_byte_.back() + base.size()) {
    WEFT_RETURN_IF_ERROR(places_->ReadAt(0, magic.size(), magic.data()));
    WEFT_RETURN_IF_ERROR(places_->ReadAt(first_byte_.back(), owner.size(), owner.data()));
  }
  if (magic != kPlacesMagic || owner != base) {
    return Corruption(path + " does not belong to " + path_ +
                      ": make both again with `weft data index`");
  }
  return OkStatus();
}

std::string Manifest::ShardPath(int64_t shard) const {
  const std::string& path = shards_[static_cast<size_t>(shard)].path;
  return path.starts_with('/') ? path : JoinPath(ParentPath(path_), path);
}

std::vector<uint64_t> Manifest::ShardSizes() const {
  std::vector<uint64_t> sizes;
  auto excluded = excluded_.begin();
  for (size_t i = 0; i < shards_.size(); ++i) {
    const auto next = std::lower_bound(excluded, excluded_.end(), first_sample_[i + 1]);
    sizes.push_back(shards_[i].samples - static_cast<uint64_t>(next - excluded));
    excluded = next;
  }
  return sizes;
}

LocatedSample Manifest::Find(int64_t id) const {
  // The k-th excluded sample (counted from 0) comes before sample `id` of the rest if excluded[k] - k <= id.
  auto position = static_cast<uint64_t>(id);
  size_t low = 0;
  size_t high = excluded_.size();
  while (low < high) {
    const size_t k = (low + high) / 2;
    if (excluded_[k] - k <= position) {
      low = k + 1;
    } else {
      high = k;
    }
  }
  position += low;
  const size_t shard = shard_of_.Find(position);
  return {static_cast<int64_t>(shard), static_cast<int64_t>(position - first_sample_[shard]), {}};
}

StatusOr<LocatedSample> Manifest::Locate(int64_t id) const {
  LocatedSample sample = Find(id);
  WEFT_ASSIGN_OR_RETURN(sample.place, PlaceOf(sample.shard, sample.index));
  return sample;
}

StatusOr<SamplePlace> Manifest::PlaceOf(int64_t shard, int64_t index) const {
  const uint64_t byte =
      first_byte_[static_cast<size_t>(shard)] + static_cast<uint64_t>(index) * sizeof(SamplePlace);
  SamplePlace place;
  WEFT_RETURN_IF_ERROR(places_->ReadAt(byte, sizeof place, &place));
  return place;
}

StatusOr<int64_t> Manifest::Exclude(std::vector<std::pair<int64_t, int64_t>> samples) {
  std::sort(samples.begin(), samples.end());
  samples.erase(std::unique(samples.begin(), samples.end()), samples.end());
  std::string text = std::string(kOverlayHead) + "\n";
  uint64_t count = 0;
  for (const auto& [shard, index] : samples) {
    if (shard < 0 || shard >= static_cast<int64_t>(shards_.size()) || index < 0 ||
        static_cast<uint64_t>(index) >= shards_[static_cast<size_t>(shard)].samples) {
      return InvalidArgument("no sample " + std::to_string(index) + " in shard " +
                             std::to_string(shard));
    }
    const uint64_t position =
        first_sample_[static_cast<size_t>(shard)] + static_cast<uint64_t>(index);
    if (std::binary_search(excluded_.begin(), excluded_.end(), position)) continue;
    text += std::to_string(shard) + '\t' + std::to_string(index) + '\n';
    ++count;
  }
  if (count == 0) return int64_t{0};
  ManifestOverlay overlay{"", count, Sha256Hex(text), ""};
  overlay.path = BaseName(path_) + "." + overlay.sha256.substr(0, 16) + ".exclude";
  FileSystem* fs = PosixFileSystem();
  WEFT_RETURN_IF_ERROR(WriteFileDurably(fs, JoinPath(ParentPath(path_), overlay.path), text));
  WEFT_RETURN_IF_ERROR(ReadOverlay(overlay));
  overlays_.push_back(std::move(overlay));
  WEFT_RETURN_IF_ERROR(Write());
  Finish();
  return static_cast<int64_t>(count);
}

Status Manifest::Write() const {
  return WriteFileDurably(PosixFileSystem(), path_, ManifestText(shards_, overlays_));
}

Status Manifest::AddColumn(const std::string& name, std::vector<ColumnValue> values) {
  if (name.empty() || name.find_first_of("\t\n/") != std::string::npos)
    return InvalidArgument("a column's name is a member's extension, not '" + name + "'");
  // Its last name holds its hash, as an exclusion's does.
  const std::string folder = ParentPath(path_);
  const std::string part = JoinPath(folder, BaseName(path_) + ".column");
  WEFT_ASSIGN_OR_RETURN(const std::string hash,
                        WriteColumnOverlay(part, name, shards_.size(), std::move(values)));
  ManifestOverlay overlay{BaseName(path_) + "." + hash.substr(0, 16) + ".column", 0, hash, name};
  FileSystem* fs = PosixFileSystem();
  WEFT_RETURN_IF_ERROR(fs->Rename(part, JoinPath(folder, overlay.path)));
  WEFT_RETURN_IF_ERROR(fs->SyncDir(folder));
  std::vector<uint64_t> samples;
  for (const ManifestShard& shard : shards_) samples.push_back(shard.samples);
  WEFT_ASSIGN_OR_RETURN(
      std::unique_ptr<ColumnOverlay> column,
      ColumnOverlay::Open(JoinPath(folder, overlay.path), overlay.sha256, samples));
  overlay.samples = column->num_values();
  columns_.push_back(std::move(column));
  overlays_.push_back(std::move(overlay));
  WEFT_RETURN_IF_ERROR(Write());
  Finish();
  return OkStatus();
}

bool Manifest::HasColumnValue(std::string_view name, int64_t shard, int64_t index) const {
  return std::any_of(columns_.begin(), columns_.end(), [&](const auto& column) {
    return column->name() == name && column->Has(shard, index);
  });
}

StatusOr<std::optional<std::string_view>> Manifest::ColumnValueOf(std::string_view name,
                                                                  int64_t shard,
                                                                  int64_t index) const {
  for (auto column = columns_.rbegin(); column != columns_.rend(); ++column) {
    if ((*column)->name() == name && (*column)->Has(shard, index))
      return (*column)->Read(shard, index);
  }
  return std::optional<std::string_view>();
}

}  // namespace weft
