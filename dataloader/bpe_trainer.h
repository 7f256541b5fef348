// Learns BPE merges from texts (Sennrich et al. 2016, over bytes): again and again the most frequent pair of neighbours
// becomes a symbol. Equal counts: the pair with the smaller ids wins, so the same texts give the same file.
//
// Thread rule: one thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "cluster/base/status.h"
#include "dataloader/bpe_vocabulary.h"

namespace weft {

class BpeTrainer {
 public:
  explicit BpeTrainer(BpeStyle style = BpeStyle::kClip) : style_(style) {}

  // Counts the words of a text, cleaned and cut as the tokenizer does.
  void AddText(std::string_view text);
  int64_t num_texts() const { return num_texts_; }
  int64_t num_distinct_words() const { return static_cast<int64_t>(word_counts_.size()); }

  // The text of a vocabulary file with the merges of a vocabulary of that size (bpe_vocabulary.h). InvalidArgument if the texts
  // do not have that many.
  StatusOr<std::string> Train(int vocab_size) const;

 private:
  const BpeStyle style_;
  std::map<std::string, int64_t, std::less<>> word_counts_;
  int64_t num_texts_ = 0;
};

}  // namespace weft
