// Makes the pack table of one shard (conversation_packs.h): threads measure groups of 512 conversations and pack each group.
//
// Errors: I/O of the shard; bad conversations are counted and left out. Thread rule: one caller; its threads are its own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/conversation_packs.h"
#include "dataloader/conversation_set.h"

namespace weft {

struct PackedShard {
  std::vector<ConversationPack> packs;
  std::vector<PackMember> members;
  // SHA-256 of what Measure depends on.
  std::string content;
  int64_t left_out = 0;
  // Of the first one that is left out: which and why.
  std::string first_left_out;
};

StatusOr<PackedShard> PackConversations(const ConversationSet& conversations,
                                        const DataSet::ShardView& shard);
// `content` alone.
StatusOr<std::string> ConversationContent(const ConversationSet& conversations,
                                          const DataSet::ShardView& shard);

}  // namespace weft
