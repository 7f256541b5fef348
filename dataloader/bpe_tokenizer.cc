#include "dataloader/bpe_tokenizer.h"

#include <algorithm>
#include <utility>

#include "cluster/base/logging.h"
#include "dataloader/html_entities.h"
#include "dataloader/unicode.h"

namespace weft {
namespace {

constexpr std::string_view kStart = "<|startoftext|>";
constexpr std::string_view kEnd = "<|endoftext|>";
constexpr std::string_view kContractions[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
constexpr size_t kMaxCachedWords = size_t{1} << 16;

// Bytes of `text` that the next word takes; 0: white space.
size_t WordLength(std::string_view text) {
  if (text.substr(0, kStart.size()) == kStart) return kStart.size();
  if (text.substr(0, kEnd.size()) == kEnd) return kEnd.size();
  for (const std::string_view contraction : kContractions) {
    if (text.substr(0, contraction.size()) == contraction) return contraction.size();
  }
  size_t next = 0;
  const uint32_t first = NextCodePoint(text, &next);
  if (IsSpace(first)) return 0;
  if (IsNumber(first)) return next;
  const bool letters = IsLetter(first);
  size_t end = next;
  while (next < text.size()) {
    const uint32_t c = NextCodePoint(text, &next);
    if (letters ? !IsLetter(c) : IsLetter(c) || IsNumber(c) || IsSpace(c)) break;
    end = next;
  }
  return end;
}

enum class TextClass { kSpace, kLetter, kNumber, kOther };

TextClass ClassOf(uint32_t code_point) {
  if (IsSpace(code_point)) return TextClass::kSpace;
  if (IsLetter(code_point)) return TextClass::kLetter;
  return IsNumber(code_point) ? TextClass::kNumber : TextClass::kOther;
}

// Where the run of characters of one class that begins at `begin` ends, and its last character begins.
struct Run {
  TextClass of;
  size_t last;
  size_t end;
};
Run RunAt(std::string_view text, size_t begin) {
  size_t next = begin;
  Run run{ClassOf(NextCodePoint(text, &next)), begin, next};
  while (next < text.size()) {
    if (ClassOf(NextCodePoint(text, &next)) != run.of) break;
    run.last = run.end;
    run.end = next;
  }
  return run;
}

// Bytes that GPT-2's next word takes: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
size_t Gpt2WordLength(std::string_view text) {
  for (const std::string_view contraction : kContractions) {
    if (text.substr(0, contraction.size()) == contraction) return contraction.size();
  }
  const Run run = RunAt(text, 0);
  if (run.of != TextClass::kSpace || run.end == text.size()) return run.end;
  // All white space but its last character; a single space goes with what follows.
  if (run.last > 0) return run.last;
  return text[0] == ' ' ? RunAt(text, run.end).end : run.end;
}

// The next word, which is taken off `text`. Empty: there is none.
std::string_view TakeWord(std::string_view* text) {
  while (!text->empty()) {
    const size_t length = WordLength(*text);
    size_t next = length;
    if (length == 0) NextCodePoint(*text, &next);  // white space
    const std::string_view word = text->substr(0, length);
    text->remove_prefix(next);
    if (length > 0) return word;
  }
  return {};
}

std::string_view TakeGpt2Word(std::string_view* text) {
  if (text->empty()) return {};
  const std::string_view word = text->substr(0, Gpt2WordLength(*text));
  text->remove_prefix(word.size());
  return word;
}

// What CleanCaption makes of ASCII without HTML references. False: it is something else.
bool CleanPlainAscii(std::string_view text, std::string* out) {
  out->clear();
  bool pending = false;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte >= 0x80 || c == '&') return false;
    if (IsSpace(byte)) {
      pending = !out->empty();
    } else if (byte >= 0x20 && byte != 0x7F) {
      if (pending) *out += ' ';
      pending = false;
      *out += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    }
  }
  return true;
}

// ftfy's straight quotes, and its removal of control characters.
std::string StraightenText(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const uint32_t c = NextCodePoint(text, &i);
    if (c == 0x2BC || (c >= 0x2018 && c <= 0x201B)) {
      out += '\'';
    } else if (c >= 0x201C && c <= 0x201F) {
      out += '"';
    } else if (IsSpace(c) || (c >= 0x20 && c != 0x7F && c != 0xFEFF)) {
      AppendUtf8(c, &out);
    }
  }
  return out;
}

}  // namespace

std::string CleanCaption(std::string_view text) {
  const std::string fixed = StraightenText(ToNfc(text));
  return ToLower(CollapseSpaces(UnescapeHtml(UnescapeHtml(fixed))));
}

void CleanCaption(std::string_view text, std::string* out) {
  if (!CleanPlainAscii(text, out)) *out = CleanCaption(text);
}

std::vector<std::string_view> SplitWords(std::string_view text) {
  std::vector<std::string_view> words;
  for (auto word = TakeWord(&text); !word.empty(); word = TakeWord(&text)) words.push_back(word);
  return words;
}

std::vector<std::string_view> SplitGpt2Words(std::string_view text) {
  std::vector<std::string_view> words;
  while (!text.empty()) words.push_back(TakeGpt2Word(&text));
  return words;
}

const std::vector<int>& BpeTokenizer::EncodeWord(std::string_view word) {
  word_.assign(word);
  const auto cached = cache_.find(word_);
  if (cached != cache_.end()) return cached->second;
  std::vector<int> symbols;
  const bool word_ends = HasWordEnds(vocabulary_.style());
  if (word_ends && (word == kStart || word == kEnd)) {
    symbols.push_back(word == kStart ? vocabulary_.start_id() : vocabulary_.end_id());
  } else {
    for (const char byte : word) symbols.push_back(BpeByteId(static_cast<uint8_t>(byte)));
    if (word_ends) symbols.back() += kBpeByteSymbols;
  }
  while (symbols.size() > 1) {
    BpeVocabulary::Merge best;
    int best_left = 0;
    int best_right = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const BpeVocabulary::Merge merge = vocabulary_.Find(symbols[i], symbols[i + 1]);
      if (merge.rank < 0 || (best.rank >= 0 && merge.rank >= best.rank)) continue;
      best = merge;
      best_left = symbols[i];
      best_right = symbols[i + 1];
    }
    if (best.rank < 0) break;
    size_t kept = 0;
    for (size_t i = 0; i < symbols.size(); ++kept) {
      const bool here =
          i + 1 < symbols.size() && symbols[i] == best_left && symbols[i + 1] == best_right;
      symbols[kept] = here ? best.id : symbols[i];
      i += here ? 2 : 1;
    }
    symbols.resize(kept);
  }
  if (cache_.size() >= kMaxCachedWords) cache_.clear();
  return cache_.emplace(word_, std::move(symbols)).first->second;
}

std::vector<int> BpeTokenizer::Encode(std::string_view text) {
  std::vector<int32_t> ids;
  EncodeTo(text, &ids);
  return ids;
}

void BpeTokenizer::EncodeTo(std::string_view text, std::vector<int32_t>* ids) {
  const bool clip = vocabulary_.style() == BpeStyle::kClip;
  if (clip) CleanCaption(text, &clean_);
  std::string_view rest = clip ? std::string_view(clean_) : text;
  const auto take = clip ? &TakeWord : &TakeGpt2Word;
  for (auto word = take(&rest); !word.empty(); word = take(&rest)) {
    for (const int symbol : EncodeWord(word)) ids->push_back(vocabulary_.first_symbol() + symbol);
  }
}

int BpeTokenizer::EncodeInto(std::string_view text, int context, int32_t* ids) {
  WEFT_CHECK_GE(context, 2);
  ids_.clear();
  EncodeTo(text, &ids_);
  const auto end = static_cast<int>(std::min(ids_.size(), static_cast<size_t>(context - 2))) + 1;
  ids[0] = vocabulary_.start_id();
  std::copy_n(ids_.begin(), end - 1, ids + 1);
  ids[end] = vocabulary_.end_id();
  std::fill(ids + end + 1, ids + context, 0);
  return end;
}

}  // namespace weft
