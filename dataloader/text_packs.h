// Blocks of tokens from a text shard, as RoBERTa's FULL-SENTENCES packing makes them (Liu et al. 2019, section 4.2): whole
// sentences, each with </s> at its end, one after the other over the ends of documents, while they fit into S - 1 tokens;
// a lone </s> stands between two documents; <s> stands before the block. A sentence of more than S - 1 tokens is cut into
// pieces of S - 1. Every token is in exactly one block; blocks do not cross shards.
//
// The blocks lie in a pack file (FORMAT.md) beside the shard, made once under a file lock by whoever comes first; it is
// used as long as the shard's bytes, the vocabulary and S stay. So any number of ranks and restarts see the same blocks.
//
// Errors: the shard's and the file system's; DeadlineExceeded (another process has held the lock for 30 minutes).
// Thread rule: immutable once open; reads are safe from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/bpe_vocabulary.h"
#include "dataloader/shard_file.h"

namespace weft {

struct PackOptions {
  // S: tokens of a block, with <s>; at least 3.
  int block = 0;
  std::vector<std::string> text_extensions;
  // Where pack files go; "": folder ".weft" beside the shard.
  std::string index_dir;
};

class TextPacks {
 public:
  static StatusOr<std::unique_ptr<TextPacks>> Open(const std::string& shard,
                                                   const BpeVocabulary& vocabulary,
                                                   const PackOptions& options);

  const std::string& shard() const { return shard_; }
  int64_t num_blocks() const { return num_blocks_; }
  int64_t num_tokens() const { return num_tokens_; }
  // SHA-256 of what the blocks depend on: the shard's bytes, the vocabulary, S.
  const std::string& fingerprint() const { return fingerprint_; }

  // Its ids with <s>. Errors: Unavailable.
  StatusOr<int64_t> Length(int64_t block) const;
  // Bytes that blocks [begin, end) take in the pack file: their entries and tokens. Errors: Unavailable.
  StatusOr<uint64_t> StoredBytes(int64_t begin, int64_t end) const;
  // The block's ids with <s>, at most S. Errors: Unavailable (CRC).
  Status Read(int64_t block, std::vector<int32_t>* ids) const;

 private:
  TextPacks() = default;
  Status Damaged(int64_t block) const;
  // NotFound: not there, or of another shard than the one of that size and time.
  static StatusOr<std::unique_ptr<TextPacks>> Load(const std::string& path,
                                                   const std::string& shard,
                                                   const std::string& key);

  std::string shard_;
  std::unique_ptr<ShardFile> file_;
  std::string fingerprint_;
  int64_t num_blocks_ = 0;
  int64_t num_tokens_ = 0;
  int32_t start_id_ = 0;
  size_t token_bytes_ = 0;
};

}  // namespace weft
