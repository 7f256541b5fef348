// What Megatron-Energon keeps beside WebDataset tars: .nv-meta/.info.json (the shards and their samples, in order) and
// X.tar.idx (where each sample begins). Weft reads samples from the tars themselves; these say in which order the tars come,
// and whether the two tools see the same samples.
//
// Errors: NotFound, Corruption; messages name the file. Thread rule: pure functions.
// Source: github.com/NVIDIA/Megatron-Energon, src/megatron/energon/flavors/webdataset (indexing.py).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/shard_index.h"

namespace weft {

struct EnergonShard {
  std::string path;
  uint64_t samples = 0;
};
// DIR/.nv-meta/.info.json; paths are those of DIR.
StatusOr<std::vector<EnergonShard>> ReadEnergonInfo(const std::string& path);

// Whether SHARD.idx, if it is there, has the samples of the index. Corruption: it has others.
Status CheckEnergonIndex(const std::string& shard_path, const ShardIndex& index);
// Writes SHARD.idx: u64 byte of each sample's first header, then the byte after the last sample.
Status WriteEnergonIndex(const std::string& shard_path, const ShardIndex& index);

}  // namespace weft
