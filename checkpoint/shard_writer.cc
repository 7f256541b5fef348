#include "checkpoint/shard_writer.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "checkpoint/shard_format.h"
#include "cluster/base/hash.h"

namespace weft {
namespace {

// Collects the payload into blocks; each block's CRC is taken from the caller's memory before the block is written.
class PayloadStream {
 public:
  PayloadStream(WritableFile* file, checkpoint::ShardInfo* info) : file_(file), info_(info) {
    block_.reserve(kShardBlockBytes);
  }

  uint64_t offset() const { return offset_; }

  Status Append(const char* data, uint64_t size) {
    while (size > 0) {
      const uint64_t part = std::min(size, kShardBlockBytes - block_.size());
      crc_ = Crc32c(data, part, crc_);
      block_.append(data, part);
      offset_ += part;
      data += part;
      size -= part;
      if (block_.size() == kShardBlockBytes) WEFT_RETURN_IF_ERROR(Flush());
    }
    return OkStatus();
  }

  Status PadTo(uint64_t alignment) {
    const std::string zeros((alignment - offset_ % alignment) % alignment, '\0');
    return Append(zeros.data(), zeros.size());
  }

  Status Flush() {
    if (block_.empty()) return OkStatus();
    info_->add_block_crcs(crc_);
    crc_ = 0;
    const Status status = file_->Append(block_);
    block_.clear();
    return status;
  }

 private:
  WritableFile* file_;
  checkpoint::ShardInfo* info_;
  std::string block_;
  uint32_t crc_ = 0;
  uint64_t offset_ = 0;
};

checkpoint::ShardInfo DescribeShard(const ShardWriterOptions& options) {
  checkpoint::ShardInfo info;
  info.set_file(ShardFileName(options.rank, options.world_size));
  info.set_rank(options.rank);
  info.set_world_size(options.world_size);
  info.set_epoch(options.epoch);
  info.set_generation(options.generation);
  info.set_step(options.step);
  info.set_attempt(options.attempt);
  return info;
}

Status WriteBytes(WritableFile* file, const std::vector<SliceData>& slices,
                  checkpoint::ShardInfo* info) {
  WEFT_RETURN_IF_ERROR(file->Append(EncodeShardHeader(*info)));
  PayloadStream payload(file, info);
  for (const SliceData& slice : slices) {
    WEFT_RETURN_IF_ERROR(payload.PadTo(kSliceAlignment));
    checkpoint::Slice* meta = info->add_slices();
    *meta = slice.meta;
    meta->set_payload_offset(payload.offset());
    WEFT_RETURN_IF_ERROR(
        payload.Append(static_cast<const char*>(slice.data), SliceBytes(slice.meta)));
  }
  WEFT_RETURN_IF_ERROR(payload.Flush());
  info->set_payload_bytes(payload.offset());
  info->set_root_crc(ShardRootCrc(*info));
  const std::string footer = EncodeShardFooter(*info);
  info->set_file_bytes(kShardHeaderBytes + payload.offset() + footer.size());
  WEFT_RETURN_IF_ERROR(file->Append(footer));
  WEFT_RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

}  // namespace

SliceData FlatSlice(const std::string& tensor, const std::string& dtype,
                    const std::vector<int64_t>& shape, int64_t flat_begin, int64_t flat_end,
                    const void* data) {
  return BoxSlice(tensor, dtype, shape, std::vector<int64_t>(shape.size()), shape, flat_begin,
                  flat_end, data);
}

SliceData BoxSlice(const std::string& tensor, const std::string& dtype,
                   const std::vector<int64_t>& shape, const std::vector<int64_t>& offsets,
                   const std::vector<int64_t>& lengths, int64_t flat_begin, int64_t flat_end,
                   const void* data) {
  SliceData slice;
  slice.meta.set_tensor(tensor);
  slice.meta.set_dtype(dtype);
  slice.meta.mutable_global_shape()->Add(shape.begin(), shape.end());
  slice.meta.mutable_offsets()->Add(offsets.begin(), offsets.end());
  slice.meta.mutable_lengths()->Add(lengths.begin(), lengths.end());
  slice.meta.set_flat_begin(flat_begin);
  slice.meta.set_flat_end(flat_end);
  slice.data = data;
  return slice;
}

StatusOr<checkpoint::ShardInfo> WriteShard(FileSystem* fs, const std::string& directory,
                                           const ShardWriterOptions& options,
                                           const std::vector<SliceData>& slices) {
  for (const SliceData& slice : slices) WEFT_RETURN_IF_ERROR(CheckSlice(slice.meta));
  checkpoint::ShardInfo info = DescribeShard(options);
  const std::string path = JoinPath(directory, info.file());
  const std::string part = path + ".part";
  if (fs->Exists(path)) return AlreadyExists(path + ": this rank has already written its shard");
  WEFT_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, fs->CreateExclusive(part));
  Status status = WriteBytes(file.get(), slices, &info);
  if (status.ok()) status = fs->Rename(part, path);
  if (status.ok()) status = fs->SyncDir(directory);
  if (status.ok()) return info;
  file.reset();
  // Frees the space on a full disk; the coordinator removes the whole directory in any case.
  if (fs->Exists(part)) (void)fs->Remove(part);
  return status;
}

}  // namespace weft
