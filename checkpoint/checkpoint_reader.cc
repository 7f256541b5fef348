#include "checkpoint/checkpoint_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "checkpoint/coverage.h"
#include "checkpoint/shard_format.h"
#include "cluster/base/hash.h"

namespace weft {
namespace {

std::string BlockText(const checkpoint::ShardInfo& shard, uint64_t block) {
  const ByteRange range = BlockRange(block, shard.payload_bytes());
  return shard.file() + ": block " + std::to_string(block) + " (bytes " +
         std::to_string(kShardHeaderBytes + range.begin) + " to " +
         std::to_string(kShardHeaderBytes + range.end) + ")";
}

// Reads block `block` into `out` and verifies it.
Status ReadVerifiedBlock(FileSystem* fs, const std::string& directory,
                         const checkpoint::ShardInfo& shard, uint64_t block, char* out) {
  const ByteRange range = BlockRange(block, shard.payload_bytes());
  const Status read = fs->ReadRange(JoinPath(directory, shard.file()),
                                    kShardHeaderBytes + range.begin, range.size(), out);
  if (!read.ok()) return read.WithContext(BlockText(shard, block));
  const uint32_t crc = Crc32c(out, range.size());
  if (crc == shard.block_crcs(static_cast<int>(block))) return OkStatus();
  return Corruption(BlockText(shard, block) + " does not match its CRC32C: the file in " +
                    directory + " is damaged; use another checkpoint");
}

Status CheckFileSize(FileSystem* fs, const std::string& directory,
                     const checkpoint::ShardInfo& shard) {
  const StatusOr<uint64_t> found = fs->FileSize(JoinPath(directory, shard.file()));
  // A committed shard that is gone is damage like any other: an older checkpoint may still be whole.
  if (found.status().code() == StatusCode::kNotFound) {
    return Corruption(shard.file() + ": the file is missing in " + directory);
  }
  if (!found.ok()) return found.status();
  const uint64_t size = *found;
  if (size == shard.file_bytes()) return OkStatus();
  const uint64_t payload_end = kShardHeaderBytes + shard.payload_bytes();
  const std::string where =
      size < kShardHeaderBytes
          ? shard.file() + ": header"
          : (size < payload_end ? BlockText(shard, (size - kShardHeaderBytes) / kShardBlockBytes)
                                : shard.file() + ": footer");
  return Corruption(where + ": the file in " + directory + " has " + std::to_string(size) +
                    " bytes, the manifest says " + std::to_string(shard.file_bytes()));
}

Status VerifyShard(FileSystem* fs, const std::string& directory, const checkpoint::ShardInfo& shard,
                   VerifyReport* report) {
  WEFT_RETURN_IF_ERROR(CheckFileSize(fs, directory, shard));
  const std::string path = JoinPath(directory, shard.file());
  std::string bytes(kShardHeaderBytes, '\0');
  WEFT_RETURN_IF_ERROR(fs->ReadRange(path, 0, bytes.size(), bytes.data()));
  WEFT_RETURN_IF_ERROR(CheckShardHeader(bytes, shard));
  bytes.resize(kShardBlockBytes);
  for (uint64_t block = 0; block < NumBlocks(shard.payload_bytes()); ++block) {
    WEFT_RETURN_IF_ERROR(ReadVerifiedBlock(fs, directory, shard, block, bytes.data()));
    ++report->blocks;
  }
  const uint64_t footer = kShardHeaderBytes + shard.payload_bytes();
  bytes.resize(shard.file_bytes() - footer);
  WEFT_RETURN_IF_ERROR(fs->ReadRange(path, footer, bytes.size(), bytes.data()));
  WEFT_RETURN_IF_ERROR(CheckShardFooter(bytes, shard));
  ++report->shards;
  report->bytes += shard.file_bytes();
  return OkStatus();
}

// The runs of consecutive global elements that a box consists of, in ascending order.
class BoxRuns {
 public:
  explicit BoxRuns(const checkpoint::Slice& slice) : slice_(slice) {
    const int rank = slice.global_shape_size();
    // Dimensions behind `split_` are whole, so a run spans them.
    split_ = rank - 1;
    int64_t inner = 1;
    while (split_ > 0 && slice.lengths(split_) == slice.global_shape(split_)) {
      inner *= slice.global_shape(split_);
      --split_;
    }
    run_elements_ = rank == 0 ? 1 : inner * slice.lengths(split_);
    num_runs_ = run_elements_ == 0 ? 0 : BoxElements(slice) / run_elements_;
  }

  int64_t num_runs() const { return num_runs_; }
  int64_t run_elements() const { return run_elements_; }

  // Global row-major index of the first element of run `run`.
  int64_t GlobalStart(int64_t run) const {
    int64_t start = 0;
    int64_t stride = 1;
    for (int d = slice_.global_shape_size() - 1; d >= 0; --d) {
      int64_t index = slice_.offsets(d);
      if (d < split_) {
        index += run % slice_.lengths(d);
        run /= slice_.lengths(d);
      }
      start += index * stride;
      stride *= slice_.global_shape(d);
    }
    return start;
  }

  // The first run that ends behind global element `begin`.
  int64_t FirstRunBehind(int64_t begin) const {
    int64_t low = 0;
    int64_t high = num_runs_;
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (GlobalStart(middle) + run_elements_ > begin) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }

 private:
  const checkpoint::Slice& slice_;
  int split_ = 0;
  int64_t run_elements_ = 0;
  int64_t num_runs_ = 0;
};

}  // namespace

CheckpointReader::CheckpointReader(FileSystem* fs, std::string directory,
                                   checkpoint::Manifest manifest, CheckpointReaderOptions options)
    : fs_(fs),
      directory_(std::move(directory)),
      manifest_(std::move(manifest)),
      options_(options) {}

StatusOr<std::unique_ptr<CheckpointReader>> CheckpointReader::Open(
    FileSystem* fs, const std::string& checkpoint_dir, checkpoint::Manifest manifest,
    CheckpointReaderOptions options) {
  const std::string directory = JoinPath(checkpoint_dir, manifest.directory());
  const Status coverage = CheckCoverage(manifest);
  if (!coverage.ok()) return Corruption(directory + ": " + coverage.message());
  for (const checkpoint::ShardInfo& shard : manifest.shards()) {
    WEFT_RETURN_IF_ERROR(CheckFileSize(fs, directory, shard));
  }
  std::unique_ptr<CheckpointReader> reader(
      new CheckpointReader(fs, directory, std::move(manifest), options));
  reader->IndexSlices();
  return reader;
}

void CheckpointReader::IndexSlices() {
  for (int shard = 0; shard < manifest_.shards_size(); ++shard) {
    for (const checkpoint::Slice& slice : manifest_.shards(shard).slices()) {
      Tensor& tensor = tensors_[slice.tensor()];
      tensor.info.dtype = slice.dtype();
      tensor.info.shape.assign(slice.global_shape().begin(), slice.global_shape().end());
      tensor.info.num_elements = NumElements(slice);
      tensor.slices.push_back({shard, &slice});
    }
  }
}

std::vector<std::string> CheckpointReader::TensorNames() const {
  std::vector<std::string> names;
  names.reserve(tensors_.size());
  for (const auto& [name, tensor] : tensors_) names.push_back(name);
  return names;
}

StatusOr<TensorInfo> CheckpointReader::tensor(const std::string& name) const {
  const auto it = tensors_.find(name);
  if (it == tensors_.end()) return NotFound("tensor '" + name + "' is not in " + directory_);
  return it->second.info;
}

Status CheckpointReader::ReadBlock(int shard, uint64_t block, char* out) {
  ++blocks_read_;
  return ReadVerifiedBlock(fs_, directory_, manifest_.shards(shard), block, out);
}

StatusOr<const std::string*> CheckpointReader::Block(int shard, uint64_t block) {
  const BlockKey key(shard, block);
  if (const auto it = cache_index_.find(key); it != cache_index_.end()) {
    cache_.splice(cache_.begin(), cache_, it->second);
    return &cache_.front().bytes;
  }
  std::string bytes(BlockRange(block, manifest_.shards(shard).payload_bytes()).size(), '\0');
  WEFT_RETURN_IF_ERROR(ReadBlock(shard, block, bytes.data()));
  if (cache_.size() >= static_cast<size_t>(std::max(options_.cache_blocks, 1))) {
    cache_index_.erase(cache_.back().key);
    cache_.pop_back();
  }
  cache_.push_front({key, std::move(bytes)});
  cache_index_[key] = cache_.begin();
  return &cache_.front().bytes;
}

Status CheckpointReader::ReadPayload(int shard, uint64_t offset, uint64_t size, char* out) {
  const uint64_t payload = manifest_.shards(shard).payload_bytes();
  const uint64_t end = offset + size;
  while (offset < end) {
    const uint64_t index = offset / kShardBlockBytes;
    const ByteRange block = BlockRange(index, payload);
    const uint64_t part = std::min(end, block.end) - offset;
    if (part == block.size() && cache_index_.count({shard, index}) == 0) {
      // A whole block that nobody else will want: no detour through the cache.
      WEFT_RETURN_IF_ERROR(ReadBlock(shard, index, out));
    } else {
      WEFT_ASSIGN_OR_RETURN(const std::string* bytes, Block(shard, index));
      std::memcpy(out, bytes->data() + (offset - block.begin), part);
    }
    out += part;
    offset += part;
  }
  return OkStatus();
}

// Copies what the slice holds of global elements [flat_begin, flat_end); `out` belongs to flat_begin.
Status CheckpointReader::CopySlice(const SliceRef& ref, int64_t flat_begin, int64_t flat_end,
                                   char* out) {
  const checkpoint::Slice& slice = *ref.slice;
  const auto element = static_cast<int64_t>(DtypeBytes(slice.dtype()));
  const BoxRuns runs(slice);
  if (runs.num_runs() == 0) return OkStatus();
  // Runs that the slice holds a part of, from the first that is wanted.
  const int64_t first =
      std::max(runs.FirstRunBehind(flat_begin), slice.flat_begin() / runs.run_elements());
  const int64_t last = (slice.flat_end() + runs.run_elements() - 1) / runs.run_elements();
  for (int64_t run = first; run < last; ++run) {
    const int64_t global = runs.GlobalStart(run);
    if (global >= flat_end) break;
    // In elements of the box: the run, cut to what the slice holds and to what is wanted.
    const int64_t in_box = run * runs.run_elements();
    const int64_t begin = std::max({in_box, slice.flat_begin(), in_box + flat_begin - global});
    const int64_t end =
        std::min({in_box + runs.run_elements(), slice.flat_end(), in_box + flat_end - global});
    if (begin >= end) continue;
    WEFT_RETURN_IF_ERROR(ReadPayload(
        ref.shard,
        slice.payload_offset() + static_cast<uint64_t>((begin - slice.flat_begin()) * element),
        static_cast<uint64_t>((end - begin) * element),
        out + (global + begin - in_box - flat_begin) * element));
  }
  return OkStatus();
}

Status CheckpointReader::Read(const std::string& tensor, int64_t flat_begin, int64_t flat_end,
                              void* out) {
  const auto it = tensors_.find(tensor);
  if (it == tensors_.end()) return NotFound("tensor '" + tensor + "' is not in " + directory_);
  if (flat_begin < 0 || flat_begin > flat_end || flat_end > it->second.info.num_elements) {
    return InvalidArgument("tensor '" + tensor + "' has " +
                           std::to_string(it->second.info.num_elements) + " elements; [" +
                           std::to_string(flat_begin) + ", " + std::to_string(flat_end) +
                           ") is wanted");
  }
  for (const SliceRef& ref : it->second.slices) {
    const Status status = CopySlice(ref, flat_begin, flat_end, static_cast<char*>(out));
    if (!status.ok()) return status.WithContext("tensor '" + tensor + "'");
  }
  return OkStatus();
}

StatusOr<VerifyReport> VerifyCheckpoint(FileSystem* fs, const std::string& checkpoint_dir,
                                        const checkpoint::Manifest& manifest) {
  const std::string directory = JoinPath(checkpoint_dir, manifest.directory());
  const Status coverage = CheckCoverage(manifest);
  if (!coverage.ok()) return Corruption(directory + ": " + coverage.message());
  VerifyReport report;
  for (const checkpoint::ShardInfo& shard : manifest.shards()) {
    WEFT_RETURN_IF_ERROR(VerifyShard(fs, directory, shard, &report));
  }
  std::map<std::string, int> tensors;
  for (const checkpoint::ShardInfo& shard : manifest.shards()) {
    for (const checkpoint::Slice& slice : shard.slices()) ++tensors[slice.tensor()];
  }
  report.tensors = static_cast<int>(tensors.size());
  return report;
}

}  // namespace weft
