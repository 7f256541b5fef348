#include "dataloader/data_set.h"

#include <algorithm>
#include <array>
#include <utility>

#include "cluster/base/file_system.h"
#include "cluster/base/hash.h"
#include "cluster/base/text.h"
#include "dataloader/energon.h"
#include "dataloader/mds_shard.h"
#include "dataloader/shard_members.h"

namespace weft {
namespace {

// The shards that another tool's list names: MosaicML's index.json, Energon's .nv-meta/.info.json. Nothing: it is no list.
std::vector<std::string> ListedShards(const std::string& path, const std::string& name) {
  std::vector<std::string> paths;
  if (name == "index.json") {
    const StatusOr<std::vector<MdsShardEntry>> entries = ReadMdsIndex(path);
    if (!entries.ok()) return {};
    for (const MdsShardEntry& entry : *entries) paths.push_back(entry.path);
  } else if (name == ".info.json") {
    const StatusOr<std::vector<EnergonShard>> shards = ReadEnergonInfo(path);
    if (!shards.ok()) return {};
    for (const EnergonShard& shard : *shards) paths.push_back(shard.path);
  }
  return paths;
}

// The files that `pattern` matches, sorted; a pattern without * and ? and one that matches nothing stay
// as they are (opening the latter then says that there is no such file). Folders hold no wildcards.
std::vector<std::string> ExpandGlob(const std::string& pattern) {
  const std::string name = pattern.substr(pattern.find_last_of('/') + 1);
  const std::vector<std::string> listed = ListedShards(pattern, name);
  if (!listed.empty()) return listed;
  if (name.find_first_of("*?") == std::string::npos) return {pattern};
  const std::string folder = ParentPath(pattern);
  const StatusOr<std::vector<std::string>> names = PosixFileSystem()->ListDir(folder);
  std::vector<std::string> paths;
  if (names.ok()) {
    for (const std::string& candidate : *names) {
      if (GlobMatch(name, candidate)) {
        paths.push_back(name == pattern ? candidate : JoinPath(folder, candidate));
      }
    }
  }
  return paths.empty() ? std::vector<std::string>{pattern} : paths;
}

}  // namespace

std::vector<std::string> ExpandShardPatterns(const std::vector<std::string>& patterns) {
  std::vector<std::string> paths;
  for (const std::string& joined : patterns) {
    size_t begin = 0;
    while (begin <= joined.size()) {
      const size_t end = std::min(joined.find("::", begin), joined.size());
      for (const std::string& pattern : ExpandBraces(joined.substr(begin, end - begin))) {
        for (std::string& path : ExpandGlob(pattern)) paths.push_back(std::move(path));
      }
      begin = end + 2;
    }
  }
  return paths;
}

StatusOr<std::unique_ptr<DataSet>> DataSet::Open(const std::vector<std::string>& patterns,
                                                 const std::string& what) {
  const std::vector<std::string> paths = ExpandShardPatterns(patterns);
  if (paths.empty()) return InvalidArgument(what + " names no shards");
  std::unique_ptr<DataSet> set(new DataSet());
  set->first_sample_.push_back(0);
  for (const std::string& path : paths) {
    Status status;
    if (!IsManifestPath(path)) {
      status = set->AddShard(path);
    } else if (paths.size() == 1) {
      status = set->OpenManifest(path);
    } else {
      status = InvalidArgument(path + " is a manifest: name it alone, without other shards");
    }
    if (!status.ok()) return status.WithContext(what);
  }
  if (set->num_samples() == 0) {
    return InvalidArgument(what + ": no samples in " + std::to_string(paths.size()) +
                           " shards (first: " + paths[0] +
                           "); a sample's members are named KEY.EXTENSION");
  }
  set->manifest_hash_ = set->manifest_ ? set->manifest_->hash() : set->ComputeManifestHash();
  return set;
}

Status DataSet::AddShard(const std::string& path) {
  WEFT_ASSIGN_OR_RETURN(std::unique_ptr<ShardFile> file, ShardFile::Open(path, files_));
  std::optional<ShardIndex> index = ShardIndex::MapBeside(*file);
  if (!index) {
    WEFT_ASSIGN_OR_RETURN(index, ShardIndex::Build(*file));
  }
  first_sample_.push_back(first_sample_.back() + static_cast<uint64_t>(index->num_samples()));
  shards_.push_back({std::move(file), std::move(*index), {}, nullptr});
  return OkStatus();
}

Status DataSet::OpenManifest(const std::string& path) {
  WEFT_ASSIGN_OR_RETURN(manifest_, Manifest::Open(path));
  for (size_t i = 0; i < manifest_->shards().size(); ++i) {
    const ManifestShard& wanted = manifest_->shards()[i];
    WEFT_RETURN_IF_ERROR(AddShard(manifest_->ShardPath(static_cast<int64_t>(i))));
    const Shard& shard = shards_.back();
    if (shard.file->size() != wanted.bytes || shard.index.contents_crc() != wanted.contents_crc ||
        static_cast<uint64_t>(shard.index.num_samples()) != wanted.samples) {
      return Corruption("shard " + shard.file->path() + " is not the one that " + path +
                        " was made from; `weft data index` makes a new manifest");
    }
  }
  return OkStatus();
}

std::vector<uint64_t> DataSet::ShardSizes() const {
  if (manifest_) return manifest_->ShardSizes();
  std::vector<uint64_t> sizes;
  for (const Shard& shard : shards_)
    sizes.push_back(static_cast<uint64_t>(shard.index.num_samples()));
  return sizes;
}

DataSet::Location DataSet::Locate(int64_t id) const {
  if (manifest_) {
    const LocatedSample sample = manifest_->Find(id);
    return {&shards_[static_cast<size_t>(sample.shard)], sample.index};
  }
  const auto after =
      std::upper_bound(first_sample_.begin(), first_sample_.end(), static_cast<uint64_t>(id));
  const auto shard = static_cast<size_t>(after - first_sample_.begin()) - 1;
  return {&shards_[shard], id - static_cast<int64_t>(first_sample_[shard])};
}

std::string_view DataSet::key(int64_t id) const {
  const Location location = Locate(id);
  return location.shard->index.key(location.index);
}

std::string DataSet::Describe(int64_t id) const {
  const Location location = Locate(id);
  return "shard " + location.shard->file->path() + ", sample '" +
         std::string(location.shard->index.key(location.index)) + "'";
}

DataSet::Place DataSet::PlaceOf(int64_t id) const {
  const Location at = Locate(id);
  return {at.shard - shards_.data(), at.index, at.shard->index.sample(at.index).size};
}

uint64_t DataSet::BytesOf(int64_t shard, int64_t begin, int64_t end) const {
  const ShardIndex& index = shards_[static_cast<size_t>(shard)].index;
  const IndexedSample& last = index.sample(std::min(end, index.num_samples()) - 1);
  return last.begin + last.size - index.sample(begin).begin;
}

std::vector<DataSet::ShardView> DataSet::ShardViews(std::span<const std::string> extensions) const {
  std::string columns;
  for (const std::string& extension : extensions) {
    columns += extension + "\n";
    if (!manifest_) continue;
    for (const ManifestOverlay& overlay : manifest_->overlays()) {
      if (overlay.column == extension) columns += overlay.sha256 + "\n";
    }
  }
  std::vector<ShardView> views;
  int64_t first = 0;
  const std::vector<uint64_t> sizes = ShardSizes();
  for (size_t i = 0; i < shards_.size(); ++i) {
    const Shard& shard = shards_[i];
    const int64_t end = first + static_cast<int64_t>(sizes[i]);
    std::string seen = "all\n";
    if (end - first != shard.index.num_samples()) {
      seen.clear();
      for (int64_t id = first; id < end; ++id) seen += std::to_string(Locate(id).index) + "\n";
    }
    views.push_back(
        {shard.file->path(), shard.file->disk_bytes(), shard.file->disk_time(), first, end,
         Sha256Hex(std::to_string(shard.index.contents_crc()) + "\n" + columns + seen)});
    first = end;
  }
  return views;
}

void DataSet::UsePictureChecks(const std::vector<std::string>& image_extensions) {
  for (Shard& shard : shards_) {
    std::optional<PictureCheck> check =
        ReadPictureCheck(*shard.file, shard.index, image_extensions);
    if (!check) return;
    shard.pictures = std::move(*check);
  }
  pictures_checked_ = true;
}

void DataSet::ReadThrough(ChunkCache* cache, int64_t chunk) {
  int64_t first = 0;
  const std::vector<uint64_t> sizes = ShardSizes();
  for (size_t s = 0; s < shards_.size(); ++s) {
    Shard& shard = shards_[s];
    const auto count = static_cast<int64_t>(sizes[s]);
    // Exclusions move the order's chunks.
    std::vector<int64_t> starts;
    for (int64_t i = 0; i < count; i += chunk) starts.push_back(Locate(first + i).index);
    if (count > 0) starts.push_back(Locate(first + count - 1).index + 1);
    first += count;
    if (!shard.file->inflated())
      shard.cached = CachedShard::Make(*shard.file, shard.index, starts, cache);
  }
}

ChunkRef DataSet::ChunkOf(int64_t id) const {
  const Location at = Locate(id);
  const CachedShard* cached = at.shard->cached.get();
  return cached == nullptr ? ChunkRef() : cached->ChunkAt(at.index);
}

bool DataSet::HasBadPicture(int64_t id) const {
  const auto [shard, index] = Locate(id);
  return std::binary_search(shard->pictures.bad.begin(), shard->pictures.bad.end(), index);
}

bool DataSet::HasValue(const Location& at, std::string_view name) const {
  return manifest_ && manifest_->HasColumnValue(name, at.shard - shards_.data(), at.index);
}

bool DataSet::Has(int64_t id, std::span<const std::string> extensions) const {
  const Location at = Locate(id);
  for (const std::string& extension : extensions) {
    if (HasValue(at, extension) || at.shard->index.Find(at.index, extension) != nullptr)
      return true;
  }
  return false;
}

std::vector<std::string> DataSet::Extensions(int64_t id) const {
  const Location at = Locate(id);
  std::vector<std::string> extensions;
  for (const ShardMember& member : at.shard->index.members(at.index))
    extensions.push_back(at.shard->index.extension(member));
  if (!manifest_) return extensions;
  for (const auto& column : manifest_->columns()) {
    const bool is_new =
        std::find(extensions.begin(), extensions.end(), column->name()) == extensions.end();
    if (is_new && HasValue(at, column->name())) extensions.push_back(column->name());
  }
  return extensions;
}

StatusOr<Sample> DataSet::Read(int64_t id) const {
  std::vector<std::pair<std::string, std::string>> members;
  for (std::string& extension : Extensions(id)) {
    std::string bytes;
    WEFT_RETURN_IF_ERROR(ReadMember(id, std::array{extension}, &bytes));
    members.emplace_back(std::move(extension), std::move(bytes));
  }
  return MakeSample(std::string(key(id)), std::move(members));
}

int64_t DataSet::MemberBytes(int64_t id, std::span<const std::string> extensions) const {
  const Location at = Locate(id);
  for (const std::string& extension : extensions) {
    if (HasValue(at, extension)) {
      const auto value = manifest_->ColumnValueOf(extension, at.shard - shards_.data(), at.index);
      return value.ok() ? static_cast<int64_t>((*value)->size()) : 0;
    }
    const ShardMember* member = at.shard->index.Find(at.index, extension);
    if (member != nullptr) return static_cast<int64_t>(member->size);
  }
  return 0;
}

Status DataSet::ReadMember(int64_t id, std::span<const std::string> extensions,
                           std::string* bytes) const {
  const Location at = Locate(id);
  for (const std::string& extension : extensions) {
    if (HasValue(at, extension)) {
      WEFT_ASSIGN_OR_RETURN(
          const std::optional<std::string_view> value,
          manifest_->ColumnValueOf(extension, at.shard - shards_.data(), at.index));
      bytes->assign(*value);
      return OkStatus();
    }
    const ShardMember* member = at.shard->index.Find(at.index, extension);
    if (member == nullptr) continue;
    const ShardBytes* source = at.shard->file.get();
    if (at.shard->cached != nullptr) source = at.shard->cached.get();
    return ReadShardMember(*source, at.shard->index, *member, bytes);
  }
  return Corruption("no member ." + Join({extensions.begin(), extensions.end()}, " or .") +
                    " (it has ." + Join(Extensions(id), ", .") + ")");
}

std::string DataSet::ComputeManifestHash() const {
  std::vector<ManifestShard> shards;
  for (const Shard& shard : shards_) {
    shards.push_back({shard.file->path(), shard.file->size(),
                      static_cast<uint64_t>(shard.index.num_samples()),
                      shard.index.contents_crc()});
  }
  return ManifestHash(shards);
}

}  // namespace weft
