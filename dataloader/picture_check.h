// Which samples of a shard have a picture that does not decode: found once and kept beside the shard (FORMAT.md), so that a
// consumer without pixels knows the bad samples as one with pixels does, and decodes nothing.
//
// Errors: the file system's; messages name the shard. Thread rule: values; CheckPictures works on several threads inside.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/shard_file.h"
#include "dataloader/shard_index.h"

namespace weft {

struct PictureCheck {
  // Samples of the shard, rising.
  std::vector<int64_t> bad;
};

// Decodes each sample's first member of `extensions`; a sample without one counts as good.
StatusOr<PictureCheck> CheckPictures(const ShardFile& file, const ShardIndex& index,
                                     const std::vector<std::string>& extensions, int threads);

// "SHARD.checked", written durably.
Status WritePictureCheck(const ShardFile& file, const ShardIndex& index,
                         const std::vector<std::string>& extensions, const PictureCheck& check);
// Nothing: there is no file, or it is of other bytes or other extensions.
std::optional<PictureCheck> ReadPictureCheck(const ShardFile& file, const ShardIndex& index,
                                             const std::vector<std::string>& extensions);

}  // namespace weft
