// Writes one rank's shard of a checkpoint into the directory that the coordinator granted (FORMAT.md):
// .part with O_EXCL, payload with a CRC32C per 1 MiB block computed from memory before it is written, footer, fsync,
// rename, fsync of the directory. Only then does the returned ShardInfo exist, and only a manifest that holds it makes
// the shard count.
//
// Errors: the file system's (ResourceExhausted on a full disk), InvalidArgument for a slice that makes no sense. After an
// error the .part file is removed if that still works; the attempt is lost, nothing older is touched. A failed fsync is
// never retried. Thread rule: pure function of its arguments; `data` must not change meanwhile.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/manifest.pb.h"
#include "cluster/base/file_system.h"
#include "cluster/base/status.h"

namespace weft {

struct ShardWriterOptions {
  int rank = 0;
  int world_size = 1;
  // The token of the generation that saves, and the grant's attempt.
  uint64_t epoch = 0;
  uint64_t generation = 0;
  int64_t step = 0;
  int64_t attempt = 0;
};

// One slice of one tensor: `meta` without payload_offset (the writer sets it), and its elements, packed.
struct SliceData {
  checkpoint::Slice meta;
  const void* data = nullptr;
};

// A slice of the whole tensor's row-major elements [flat_begin, flat_end): what a data-parallel rank holds.
SliceData FlatSlice(const std::string& tensor, const std::string& dtype,
                    const std::vector<int64_t>& shape, int64_t flat_begin, int64_t flat_end,
                    const void* data);

// A slice of a box of the tensor, [offsets, offsets + lengths): of the box's row-major elements [flat_begin, flat_end).
// What a tensor-parallel rank holds.
SliceData BoxSlice(const std::string& tensor, const std::string& dtype,
                   const std::vector<int64_t>& shape, const std::vector<int64_t>& offsets,
                   const std::vector<int64_t>& lengths, int64_t flat_begin, int64_t flat_end,
                   const void* data);

// Writes the shard into `directory`. Extra memory: one block, and the ShardInfo.
StatusOr<checkpoint::ShardInfo> WriteShard(FileSystem* fs, const std::string& directory,
                                           const ShardWriterOptions& options,
                                           const std::vector<SliceData>& slices);

}  // namespace weft
