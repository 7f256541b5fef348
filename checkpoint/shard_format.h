// The bytes of a shard file (FORMAT.md): header, payload in 1 MiB blocks, footer, trailer. Used by the writer, the reader
// and the verifier; nobody else needs it.
//
// Errors: Corruption names the file and the part (header, footer, trailer). Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "checkpoint/manifest.pb.h"
#include "cluster/base/status.h"

namespace weft {

inline constexpr uint64_t kShardBlockBytes = uint64_t{1} << 20;
inline constexpr uint64_t kShardHeaderBytes = 64;
inline constexpr uint64_t kShardTrailerBytes = 32;
inline constexpr uint64_t kSliceAlignment = 64;
inline constexpr uint32_t kShardVersion = 1;

// Bytes of one element: 4 for "f32" and "i32", 8 for "f64" and "i64", 2 for "bf16" and "f16", 1 for "u8"; 0: unknown.
int DtypeBytes(std::string_view dtype);

// Elements of the whole tensor, and of the slice's box.
int64_t NumElements(const checkpoint::Slice& slice);
int64_t BoxElements(const checkpoint::Slice& slice);
// Bytes of the elements that the slice holds: (flat_end - flat_begin) * element size.
uint64_t SliceBytes(const checkpoint::Slice& slice);
// InvalidArgument if dtype, shape, box or range of the slice make no sense; the message names the tensor.
Status CheckSlice(const checkpoint::Slice& slice);

// "shard-00003-of-00008.bin".
std::string ShardFileName(int rank, int world_size);

// The payload as blocks: number of blocks, and the payload bytes [begin, end) of one.
struct ByteRange {
  uint64_t begin = 0;
  uint64_t end = 0;
  uint64_t size() const { return end - begin; }
};
uint64_t NumBlocks(uint64_t payload_bytes);
ByteRange BlockRange(uint64_t block, uint64_t payload_bytes);

// CRC32C over the block CRCs (little-endian) and the slices' serialisation.
uint32_t ShardRootCrc(const checkpoint::ShardInfo& info);

// The first 64 bytes: who wrote this file, in which generation.
std::string EncodeShardHeader(const checkpoint::ShardInfo& info);
// Corruption if `bytes` is not the header of the shard that `info` describes.
Status CheckShardHeader(std::string_view bytes, const checkpoint::ShardInfo& info);

// Footer (serialised ShardInfo) and trailer, as one run of bytes.
std::string EncodeShardFooter(const checkpoint::ShardInfo& info);
// `bytes`: everything behind the payload. Corruption if it is not the footer of `info`.
Status CheckShardFooter(std::string_view bytes, const checkpoint::ShardInfo& info);

}  // namespace weft
