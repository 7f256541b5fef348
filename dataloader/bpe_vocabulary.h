// Byte-pair merges and the ids that they make, in three styles of one file format (FORMAT.md):
//
//   kClip     256 byte symbols, the same 256 at a word's end, one a merge, start, end (Radford et al. 2021)
//   kRoberta  <s> <pad> </s> <unk>, 256 bytes, one a merge, <mask> (Liu et al. 2019: GPT-2's byte-level BPE)
//   kLlava    <pad> (also <unk>), <s>, </s>, 256 bytes, one a merge (LLaMA's special ids over GPT-2's byte-level BPE)
//
// Inside, symbols are counted from 0 without the special ids: first_symbol() + symbol is an id.
//
// Errors: NotFound, Corruption (line), InvalidArgument (too few merges, a file of another style).
// Thread rule: immutable once made.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "cluster/base/status.h"

namespace weft {

enum class BpeStyle { kClip, kRoberta, kLlava };

constexpr int kBpeByteSymbols = 256;
constexpr int kClipVocabSize = 49408;

// Entries beside the merges: bytes and special ids.
int BpeFixedEntries(BpeStyle style);
// Whether the last symbol of a word is one of its own ("t</w>"); else a word begins with its space ("\u0120t").
constexpr bool HasWordEnds(BpeStyle style) { return style == BpeStyle::kClip; }

// The head line of a file without word ends holds these words.
inline constexpr std::string_view kByteLevelHead = "weft byte-level bpe";

// Id (0..255) of each byte's symbol: printable Latin-1 first, then the rest in order. And that symbol's text.
int BpeByteId(uint8_t byte);
const std::string& BpeSymbolText(int byte_id);
// Texts of the symbols that are no merges, in order.
std::vector<std::string> BpeBaseSymbols(BpeStyle style);

class BpeVocabulary {
 public:
  // Reads a file with a head line and one merge "left right" a line, plain or gzip'ed (OpenAI's bpe_simple_vocab_16e6.txt.gz,
  // GPT-2's vocab.bpe, or the output of `weft data vocab`). As many merges are used as make `vocab_size` entries; 0: all, but
  // for kClip at most CLIP's 49408 entries.
  static StatusOr<std::unique_ptr<BpeVocabulary>> Load(const std::string& path, int vocab_size,
                                                       BpeStyle style = BpeStyle::kClip);
  // From the file's text. `name` is for errors.
  static StatusOr<std::unique_ptr<BpeVocabulary>> Parse(std::string_view text, int vocab_size,
                                                        const std::string& name,
                                                        BpeStyle style = BpeStyle::kClip);

  BpeStyle style() const { return style_; }
  // Entries.
  int size() const;
  int first_symbol() const;
  int num_symbols() const { return static_cast<int>(tokens_.size()); }
  // <s> and </s>, or CLIP's start and end of text.
  int start_id() const;
  int end_id() const;
  int pad_id() const { return style_ == BpeStyle::kRoberta ? 1 : 0; }
  // REQUIRES: kRoberta.
  int mask_id() const { return size() - 1; }

  // The two symbols' merge: its rank and the symbol it makes. Rank -1: they do not merge.
  struct Merge {
    int rank = -1;
    int id = 0;
  };
  Merge Find(int left, int right) const;
  // Text of ids, for people: "a</w>" prints as "a ". Special ids are left out.
  std::string Decode(const std::vector<int>& ids) const;
  // SHA-256 of style and symbols: vocabularies with the same one give the same ids.
  std::string Fingerprint() const;

 private:
  explicit BpeVocabulary(BpeStyle style) : style_(style) {}

  const BpeStyle style_;
  std::vector<std::string> tokens_;
  std::unordered_map<uint64_t, Merge> merges_;
};

}  // namespace weft
