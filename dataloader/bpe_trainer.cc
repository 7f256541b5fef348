#include "dataloader/bpe_trainer.h"

#include <algorithm>
#include <queue>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "dataloader/bpe_tokenizer.h"

namespace weft {
namespace {

using Pair = std::pair<int, int>;

struct PairHash {
  size_t operator()(const Pair& pair) const {
    return std::hash<uint64_t>()(static_cast<uint64_t>(pair.first) << 32 |
                                 static_cast<uint32_t>(pair.second));
  }
};

struct Word {
  std::vector<int> symbols;
  int64_t count = 0;
};

// The pairs of a corpus, their counts, and which one is next.
class PairTable {
 public:
  explicit PairTable(std::vector<Word> words) : words_(std::move(words)) {
    for (size_t i = 0; i < words_.size(); ++i) AddWord(i, +1);
  }

  // The most frequent pair; count 0: none is left.
  std::pair<Pair, int64_t> Top() {
    while (!queue_.empty()) {
      const auto [count, negated] = queue_.top();
      const Pair pair{-negated.first, -negated.second};
      if (counts_[pair] == count && count > 0) return {pair, count};
      queue_.pop();  // its count has changed since
    }
    return {};
  }

  void Replace(const Pair& pair, int made) {
    std::vector<size_t> where = std::move(words_with_[pair]);
    std::sort(where.begin(), where.end());
    where.erase(std::unique(where.begin(), where.end()), where.end());
    for (const size_t i : where) {
      AddWord(i, -1);
      std::vector<int>& symbols = words_[i].symbols;
      size_t kept = 0;
      for (size_t j = 0; j < symbols.size(); ++kept) {
        const bool here =
            j + 1 < symbols.size() && symbols[j] == pair.first && symbols[j + 1] == pair.second;
        symbols[kept] = here ? made : symbols[j];
        j += here ? 2 : 1;
      }
      symbols.resize(kept);
      AddWord(i, +1);
    }
    words_with_.erase(pair);
  }

 private:
  void AddWord(size_t index, int sign) {
    const Word& word = words_[index];
    for (size_t j = 0; j + 1 < word.symbols.size(); ++j) {
      const Pair pair{word.symbols[j], word.symbols[j + 1]};
      int64_t& count = counts_[pair];
      count += sign * word.count;
      // Ids are negated so that the queue's largest entry is the smallest pair.
      if (count > 0) queue_.push({count, {-pair.first, -pair.second}});
      if (sign > 0) words_with_[pair].push_back(index);
    }
  }

  std::vector<Word> words_;
  std::unordered_map<Pair, int64_t, PairHash> counts_;
  std::unordered_map<Pair, std::vector<size_t>, PairHash> words_with_;
  std::priority_queue<std::pair<int64_t, Pair>> queue_;
};

}  // namespace

void BpeTrainer::AddText(std::string_view text) {
  const bool clip = style_ == BpeStyle::kClip;
  const std::string clean = clip ? CleanCaption(text) : "";
  for (const std::string_view word : clip ? SplitWords(clean) : SplitGpt2Words(text)) {
    const auto found = word_counts_.find(word);
    if (found != word_counts_.end()) {
      ++found->second;
    } else {
      word_counts_.emplace(word, 1);
    }
  }
  ++num_texts_;
}

StatusOr<std::string> BpeTrainer::Train(int vocab_size) const {
  const int fixed = BpeFixedEntries(style_);
  if (vocab_size < fixed) {
    return InvalidArgument("a vocabulary of this style has at least " + std::to_string(fixed) +
                           " entries, not " + std::to_string(vocab_size));
  }
  std::vector<Word> words;
  for (const auto& [text, count] : word_counts_) {
    Word word{{}, count};
    for (const char byte : text) word.symbols.push_back(BpeByteId(static_cast<uint8_t>(byte)));
    if (HasWordEnds(style_)) word.symbols.back() += kBpeByteSymbols;
    words.push_back(std::move(word));
  }
  PairTable pairs(std::move(words));
  std::vector<std::string> tokens = BpeBaseSymbols(style_);
  const size_t first_merge = tokens.size();
  std::unordered_map<std::string, int> id_of_text;
  for (size_t i = 0; i < tokens.size(); ++i) id_of_text[tokens[i]] = static_cast<int>(i);
  std::string file = HasWordEnds(style_)
                         ? "#version: weft bpe 1, vocabulary of "
                         : "#version: " + std::string(kByteLevelHead) + " 1, vocabulary of ";
  file += std::to_string(vocab_size) + " entries\n";
  while (static_cast<int>(tokens.size() - first_merge) + fixed < vocab_size) {
    const auto [pair, count] = pairs.Top();
    if (count == 0) {
      return InvalidArgument("the texts have only " + std::to_string(tokens.size() - first_merge) +
                             " merges: the largest vocabulary is " +
                             std::to_string(static_cast<int>(tokens.size() - first_merge) + fixed));
    }
    const std::string& left = tokens[static_cast<size_t>(pair.first)];
    const std::string& right = tokens[static_cast<size_t>(pair.second)];
    file += left + ' ' + right + '\n';
    std::string made = left + right;
    // Two ways to make one text are one symbol, as they are to the tokenizer.
    const int id = id_of_text.try_emplace(made, static_cast<int>(tokens.size())).first->second;
    pairs.Replace(pair, id);
    tokens.push_back(std::move(made));
  }
  return file;
}

}  // namespace weft
