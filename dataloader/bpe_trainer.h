// Learns BPE merges from captions (Sennrich et al. 2016, over bytes): again and again the most frequent pair of neighbours
// becomes a symbol. Equal counts: the pair with the smaller ids wins, so the same captions give the same file.
//
// Thread rule: one thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "cluster/base/status.h"

namespace weft {

class BpeTrainer {
 public:
  // Counts the words of a caption, cleaned and cut as the tokenizer does.
  void AddCaption(std::string_view caption);
  int64_t num_captions() const { return num_captions_; }
  int64_t num_distinct_words() const { return static_cast<int64_t>(word_counts_.size()); }

  // The text of a vocabulary file with vocab_size - 514 merges (bpe_tokenizer.h). InvalidArgument if the captions do not have
  // that many.
  StatusOr<std::string> Train(int vocab_size) const;

 private:
  std::map<std::string, int64_t, std::less<>> word_counts_;
  int64_t num_captions_ = 0;
};

}  // namespace weft
