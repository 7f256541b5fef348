// Reads tensors of a committed checkpoint, whoever wrote them: any range of a tensor's row-major elements is gathered from
// the slices that hold it. Every block's CRC is verified before its bytes reach the caller; verified blocks are cached,
// so that thousands of small tensors cost one read a block.
//
// Errors: Corruption names the shard file, the block and its byte range in the file; a missing shard
// file is Corruption, too; NotFound for a tensor that is not there. Thread rule: a reader belongs to one thread at a time; several readers may share the files.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/manifest.pb.h"
#include "cluster/base/file_system.h"
#include "cluster/base/status.h"

namespace weft {

struct TensorInfo {
  std::string dtype;
  std::vector<int64_t> shape;
  int64_t num_elements = 0;
};

struct CheckpointReaderOptions {
  // Verified blocks (1 MiB each) that stay in memory.
  int cache_blocks = 64;
};

class CheckpointReader {
 public:
  // `checkpoint_dir` holds manifest.directory(). Checks the manifest's coverage and the size of every shard file.
  static StatusOr<std::unique_ptr<CheckpointReader>> Open(FileSystem* fs,
                                                          const std::string& checkpoint_dir,
                                                          checkpoint::Manifest manifest,
                                                          CheckpointReaderOptions options = {});

  const checkpoint::Manifest& manifest() const { return manifest_; }
  const checkpoint::TrainState& state() const { return manifest_.state(); }
  // All names, sorted.
  std::vector<std::string> TensorNames() const;
  bool Has(const std::string& tensor) const { return tensors_.count(tensor) > 0; }
  // NotFound names the tensor and the checkpoint.
  StatusOr<TensorInfo> tensor(const std::string& name) const;

  // Elements [flat_begin, flat_end) of the row-major global tensor, in its stored dtype, into `out`
  // ((flat_end - flat_begin) * element size bytes). On an error `out` holds nothing of use.
  Status Read(const std::string& tensor, int64_t flat_begin, int64_t flat_end, void* out);

  // Blocks read from disk so far: a test's and a log line's view of the cache.
  uint64_t blocks_read() const { return blocks_read_; }

 private:
  struct SliceRef {
    int shard = 0;
    const checkpoint::Slice* slice = nullptr;
  };
  struct Tensor {
    TensorInfo info;
    std::vector<SliceRef> slices;
  };
  using BlockKey = std::pair<int, uint64_t>;  // shard, block
  struct CachedBlock {
    BlockKey key;
    std::string bytes;
  };

  CheckpointReader(FileSystem* fs, std::string directory, checkpoint::Manifest manifest,
                   CheckpointReaderOptions options);
  void IndexSlices();
  // Bytes [offset, offset + size) of a shard's payload.
  Status ReadPayload(int shard, uint64_t offset, uint64_t size, char* out);
  // One whole block into `out`, verified.
  Status ReadBlock(int shard, uint64_t block, char* out);
  StatusOr<const std::string*> Block(int shard, uint64_t block);
  Status CopySlice(const SliceRef& ref, int64_t flat_begin, int64_t flat_end, char* out);

  FileSystem* const fs_;
  const std::string directory_;
  const checkpoint::Manifest manifest_;
  const CheckpointReaderOptions options_;
  std::map<std::string, Tensor> tensors_;
  std::list<CachedBlock> cache_;  // most recently used first
  std::map<BlockKey, std::list<CachedBlock>::iterator> cache_index_;
  uint64_t blocks_read_ = 0;
};

struct VerifyReport {
  int shards = 0;
  int tensors = 0;
  uint64_t blocks = 0;
  uint64_t bytes = 0;
};

// Reads everything: header, every block, footer of every shard, and checks that the slices cover every tensor. The first
// thing that is wrong is the Status.
StatusOr<VerifyReport> VerifyCheckpoint(FileSystem* fs, const std::string& checkpoint_dir,
                                        const checkpoint::Manifest& manifest);

}  // namespace weft
