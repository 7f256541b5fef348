// CLIP's byte-level BPE (Radford et al. 2021; the text pipeline of OpenAI's simple_tokenizer.py): clean, lower-case, cut into
// words, merge bytes by rank.
//
// Cleaning: NFC, curly quotes straightened, control characters removed (of ftfy.fix_text only these; it also repairs text
// that was decoded with the wrong charset), HTML unescaped twice, white space collapsed, lower-cased.
// Words: <|startoftext|>, <|endoftext|>, 's 't 're 've 'm 'll 'd, runs of letters, single digits, runs of anything else.
// Ids: 256 byte symbols, the same 256 at a word's end, one a merge, start, end.
//
// Thread rule: BpeVocabulary is immutable; a BpeTokenizer caches words and belongs to one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "cluster/base/status.h"

namespace weft {

// The byte symbols, their word-end forms, start and end: what a vocabulary has beside its merges.
constexpr int kBpeByteSymbols = 256;
constexpr int kBpeFixedSymbols = 2 * kBpeByteSymbols + 2;
constexpr int kClipVocabSize = 49408;

// Id (0..255) of each byte's symbol: printable Latin-1 first, then the rest in order. And that symbol's text.
int BpeByteId(uint8_t byte);
const std::string& BpeSymbolText(int byte_id);

class BpeVocabulary {
 public:
  // Reads a file with a head line and one merge "left right" a line, plain or gzip'ed (OpenAI's bpe_simple_vocab_16e6.txt.gz,
  // or the output of `weft data vocab`), of which the first vocab_size - 514 merges are used; vocab_size 0: all, at most CLIP's
  // 49408. Errors: NotFound, Corruption (line), InvalidArgument (too few merges).
  static StatusOr<std::unique_ptr<BpeVocabulary>> Load(const std::string& path, int vocab_size);
  // From the file's text. `name` is for errors.
  static StatusOr<std::unique_ptr<BpeVocabulary>> Parse(std::string_view text, int vocab_size,
                                                        const std::string& name);

  int size() const { return static_cast<int>(tokens_.size()) + 2; }
  int start_id() const { return size() - 2; }
  int end_id() const { return size() - 1; }
  // The two symbols' merge: its rank and the id it makes. Rank -1: they do not merge.
  struct Merge {
    int rank = -1;
    int id = 0;
  };
  Merge Find(int left, int right) const;
  // Text of ids, for people: "a</w>" prints as "a ".
  std::string Decode(const std::vector<int>& ids) const;

 private:
  BpeVocabulary() = default;

  std::vector<std::string> tokens_;
  std::unordered_map<uint64_t, Merge> merges_;
};

// Cleans a caption as the header says.
std::string CleanCaption(std::string_view text);
// Words of a cleaned caption.
std::vector<std::string_view> SplitWords(std::string_view text);

class BpeTokenizer {
 public:
  // REQUIRES: the vocabulary outlives the tokenizer.
  explicit BpeTokenizer(const BpeVocabulary& vocabulary) : vocabulary_(vocabulary) {}

  // Ids without start and end.
  std::vector<int> Encode(std::string_view text);
  // [start] ids [end], cut to `context` with [end] last, zero-padded. Returns the position of [end]. REQUIRES: context >= 2.
  int EncodeInto(std::string_view text, int context, int32_t* ids);

 private:
  const std::vector<int>& EncodeWord(std::string_view word);

  const BpeVocabulary& vocabulary_;
  std::unordered_map<std::string, std::vector<int>> cache_;
  std::string word_;
};

}  // namespace weft
