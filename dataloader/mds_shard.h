// MosaicML streaming's shards (MDS): `u32 n; u32 offset[n + 1]; JSON config; samples`, little-endian; a sample is a u32 size
// for each column of variable size, then all columns. The shard describes itself; index.json only lists shards. A column is a
// member of the sample: its name (lower-cased) is the extension, the k-th picture of a list is "k.NAME" (the first NAME).
// A sample's key is SHARD/NUMBER, as "shard.00000/17".
//
// Errors: Corruption (sizes that do not fit), InvalidArgument (a column of pickled objects, which would run code); both with
// shard and byte. Thread rule: pure functions.
// Source: github.com/mosaicml/streaming, streaming/base/format/mds (format version 2).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/shard_file.h"
#include "dataloader/shard_index_builder.h"

namespace weft {

// Whether the offsets at the file's begin are those of an MDS shard of this size.
bool LooksLikeMds(const ShardBytes& bytes);

Status AddMdsSamples(const ShardBytes& bytes, ShardIndexBuilder* builder);

// A shard as index.json lists it.
struct MdsShardEntry {
  std::string path;  // the raw file if it is there, else the compressed one
  uint64_t bytes = 0;
  uint64_t samples = 0;
  bool compressed = false;
  // Of that file: algorithm ("sha1") and hex digest.
  std::vector<std::pair<std::string, std::string>> hashes;
};
StatusOr<std::vector<MdsShardEntry>> ReadMdsIndex(const std::string& path);
// Whether the file has the bytes and the hashes that the index says (those of OpenSSL's algorithms; others are not looked
// at). Corruption: it has not.
Status CheckMdsFile(const MdsShardEntry& entry);

}  // namespace weft
