// Which conversations of a shard share a row: a table a shard, made once and kept beside it (FORMAT.md), over the shard as the
// data set sees it. Groups of 512 consecutive samples are packed by best fit (best_fit.h) into rows of at most S tokens and P
// pictures; lengths are exact, so the shard's texts are read and cut into tokens once. A conversation that is broken or has
// nothing to learn is in no pack; which pictures decode is not known here.
//
// A table depends on the texts, which samples have a picture, exclusions and columns of the manifest, the vocabulary, S, the
// positions of a picture, P, and how a row is built: a change makes a new one.
//
// Errors: the shard's and the file system's; DeadlineExceeded (another process has been packing for 30 minutes).
// Thread rule: immutable once open; reads are safe from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/conversation_set.h"
#include "dataloader/mapped_file.h"
#include "dataloader/pack_file.h"

namespace weft {

// As they lie in the table.
struct ConversationPack {
  uint64_t first_member = 0;
  // Sum of the squares of the members' tokens: what attention works on.
  uint64_t squares = 0;
  uint32_t tokens = 0;
  uint32_t members = 0;
  uint32_t pictures = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(ConversationPack) == 32);

struct PackMember {
  // Number in the shard, without samples that are excluded.
  uint32_t sample = 0;
  uint32_t tokens = 0;
};
static_assert(sizeof(PackMember) == 8);

// Limits of a table: what a reader may rely on.
struct PackLimits {
  uint64_t samples = 0;
  uint32_t tokens = 0;
  uint32_t pictures = 0;
};

// The packs and members of one shard.
struct PackTable {
  std::span<const ConversationPack> packs;
  std::span<const PackMember> members;

  std::span<const PackMember> MembersOf(const ConversationPack& pack) const {
    return members.subspan(pack.first_member, pack.members);
  }
  // What follows the head. Corruption: the sum is wrong, or something lies outside `limits`.
  // REQUIRES: payload is aligned to 8 bytes.
  static StatusOr<PackTable> Parse(const PackHead& head, std::string_view payload,
                                   const PackLimits& limits);
};

class ConversationPacks {
 public:
  // Makes the tables that are not there, with options.data.loader_threads threads.
  static StatusOr<ConversationPacks> Open(const ConversationSet& conversations);

  // Of each shard, and of all.
  std::vector<uint64_t> ShardSizes() const;
  int64_t num_packs() const { return first_pack_.back(); }
  // Conversations in them, their tokens, and the conversations that are in none.
  int64_t num_members() const { return num_members_; }
  int64_t num_tokens() const { return num_tokens_; }
  int64_t num_left_out() const { return num_left_out_; }
  // Tokens of all that the rows could hold.
  double fill() const;
  // SHA-256 over the data set's hash and the tables': what a checkpoint must match.
  const std::string& fingerprint() const { return fingerprint_; }

  struct View {
    int64_t shard = 0;
    // Number in the shard.
    int64_t number = 0;
    // Of the shard's sample 0, in the data set.
    int64_t first_id = 0;
    const ConversationPack* pack = nullptr;
    std::span<const PackMember> members;
  };
  // REQUIRES: 0 <= pack < num_packs().
  View Find(int64_t pack) const;

 private:
  struct Shard {
    std::shared_ptr<const MappedFile> file;
    PackTable table;
    int64_t first_id = 0;
  };

  int32_t context_length_ = 0;
  std::vector<Shard> shards_;
  // Number of each shard's first pack, and the total.
  std::vector<int64_t> first_pack_{0};
  int64_t num_members_ = 0;
  int64_t num_tokens_ = 0;
  int64_t num_left_out_ = 0;
  std::string fingerprint_;
};

}  // namespace weft
