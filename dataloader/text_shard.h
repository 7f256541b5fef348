// Documents and sentences of a text shard: a plain file (NAME.txt, NAME.txt.gz) or a tar with text members.
//
// A line is a sentence, without the white space at its ends; an empty line ends a document, and so does the end of a
// member. Errors: the shard's; a tar sample without a text member is Corruption. Thread rule: one thread.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/shard_file.h"

namespace weft {

bool IsPlainText(const std::string& path);

// Calls `sentence` for each sentence in order, and with "" between two documents (never first, last or twice).
Status ReadSentences(const ShardFile& shard, const std::vector<std::string>& text_extensions,
                     const std::function<void(std::string_view)>& sentence);

// SHA-256 over the SHA-256s of the shard's pieces of 1 MiB.
StatusOr<std::string> ContentHash(const ShardFile& shard);

}  // namespace weft
