// Text to ids: cut into words, merge their bytes by rank (bpe_vocabulary.h).
//
// kClip (the text pipeline of OpenAI's simple_tokenizer.py) cleans and lower-cases first. Cleaning: NFC, curly quotes straightened, control characters removed (of ftfy.fix_text only these; it also repairs text
// that was decoded with the wrong charset), HTML unescaped twice, white space collapsed, lower-cased.
// Words: <|startoftext|>, <|endoftext|>, 's 't 're 've 'm 'll 'd, runs of letters, single digits, runs of anything else.
// kRoberta and kLlava (GPT-2's encoder.py) take every byte as it is. Words: the same contractions; runs of letters, of digits
// or of other characters, each with the one space before it; of longer white space all but that last space.
//
// Thread rule: a BpeTokenizer caches words and belongs to one thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "dataloader/bpe_vocabulary.h"

namespace weft {

// Cleans a caption as the header says.
std::string CleanCaption(std::string_view text);
// The same to *out, whose memory is all that the common captions need: ASCII without '&'.
void CleanCaption(std::string_view text, std::string* out);
// Words of a cleaned caption.
std::vector<std::string_view> SplitWords(std::string_view text);
// GPT-2's words; together they are the whole text.
std::vector<std::string_view> SplitGpt2Words(std::string_view text);

class BpeTokenizer {
 public:
  // REQUIRES: the vocabulary outlives the tokenizer.
  explicit BpeTokenizer(const BpeVocabulary& vocabulary) : vocabulary_(vocabulary) {}

  const BpeVocabulary& vocabulary() const { return vocabulary_; }

  // Ids without start and end.
  std::vector<int> Encode(std::string_view text);
  // Appends them.
  void EncodeTo(std::string_view text, std::vector<int32_t>* ids);
  // [start] ids [end], cut to `context` with [end] last, zero-padded. Returns the position of [end]. REQUIRES: context >= 2.
  int EncodeInto(std::string_view text, int context, int32_t* ids);

 private:
  // The word's symbols.
  const std::vector<int>& EncodeWord(std::string_view word);

  const BpeVocabulary& vocabulary_;
  std::unordered_map<std::string, std::vector<int>> cache_;
  // Scratch: a text whose words are all known allocates nothing.
  std::string word_;
  std::string clean_;
  std::vector<int32_t> ids_;
};

}  // namespace weft
