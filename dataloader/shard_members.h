// The bytes of a sample's member, whatever the shard's format: bytes of the shard, or what a JSON record says or names.
//
// Errors: the shard's; Corruption (a picture that is not there). Thread rule: any thread.
#pragma once

#include <string>

#include "cluster/base/status.h"
#include "dataloader/shard_file.h"
#include "dataloader/shard_index.h"

namespace weft {

// REQUIRES: `member` belongs to the index, the index to the file. Reuses the string's memory.
Status ReadShardMember(const ShardBytes& file, const ShardIndex& index, const ShardMember& member,
                       std::string* bytes);

}  // namespace weft
