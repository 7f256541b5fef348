#include "dataloader/bpe_tokenizer.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
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
// Inflated; OpenAI's is 3.2 MB.
constexpr size_t kMaxFileBytes = size_t{256} << 20;

struct ByteSymbols {
  std::array<int, kBpeByteSymbols> id_of_byte;
  std::array<std::string, kBpeByteSymbols> text_of_id;
};

bool IsPrintable(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

// GPT-2's table: bytes that print stand for themselves, the others for 256, 257, ...
ByteSymbols MakeByteSymbols() {
  ByteSymbols symbols;
  int id = 0;
  for (const bool printable : {true, false}) {
    for (int byte = 0; byte < kBpeByteSymbols; ++byte) {
      if (IsPrintable(byte) != printable) continue;
      static constexpr int kPrintable = 188;
      AppendUtf8(static_cast<uint32_t>(printable ? byte : 256 + id - kPrintable),
                 &symbols.text_of_id[static_cast<size_t>(id)]);
      symbols.id_of_byte[static_cast<size_t>(byte)] = id++;
    }
  }
  return symbols;
}

const ByteSymbols& Symbols() {
  static const ByteSymbols* const kSymbols = new ByteSymbols(MakeByteSymbols());
  return *kSymbols;
}

uint64_t PairKey(int left, int right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

// The file's text; zlib passes plain files through.
StatusOr<std::string> ReadMaybeGzip(const std::string& path) {
  gzFile file = ::gzopen(path.c_str(), "rbe");
  if (file == nullptr) return ErrnoStatus("open vocabulary " + path, errno == 0 ? ENOMEM : errno);
  std::string text;
  std::vector<char> buffer(size_t{1} << 16);
  int n = 0;
  while ((n = ::gzread(file, buffer.data(), static_cast<unsigned>(buffer.size()))) > 0 &&
         text.size() < kMaxFileBytes) {
    text.append(buffer.data(), static_cast<size_t>(n));
  }
  const int closed = ::gzclose(file);
  if (n < 0 || closed != Z_OK)
    return Corruption("vocabulary " + path + ": broken or cut gzip file");
  if (n > 0) return InvalidArgument("vocabulary " + path + " is larger than 256 MiB");
  return text;
}

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

int BpeByteId(uint8_t byte) { return Symbols().id_of_byte[byte]; }
const std::string& BpeSymbolText(int byte_id) {
  return Symbols().text_of_id[static_cast<size_t>(byte_id)];
}

StatusOr<std::unique_ptr<BpeVocabulary>> BpeVocabulary::Load(const std::string& path,
                                                             int vocab_size) {
  WEFT_ASSIGN_OR_RETURN(const std::string text, ReadMaybeGzip(path));
  return Parse(text, vocab_size, path);
}

StatusOr<std::unique_ptr<BpeVocabulary>> BpeVocabulary::Parse(std::string_view text, int vocab_size,
                                                              const std::string& name) {
  if (vocab_size != 0 && vocab_size < kBpeFixedSymbols) {
    return InvalidArgument("vocab_size " + std::to_string(vocab_size) +
                           ": a vocabulary has at least " + std::to_string(kBpeFixedSymbols) +
                           " entries");
  }
  const auto wanted =
      static_cast<size_t>((vocab_size == 0 ? kClipVocabSize : vocab_size) - kBpeFixedSymbols);
  std::vector<std::pair<std::string_view, std::string_view>> lines;
  size_t begin = std::min(text.find('\n'), text.size() - 1) + 1;  // after the head line
  while (begin < text.size() && lines.size() < wanted) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    begin = end + 1;
    if (line.empty() && begin >= text.size()) break;
    const size_t space = line.find(' ');
    if (space == std::string_view::npos || space == 0 || space + 1 == line.size() ||
        line.find(' ', space + 1) != std::string_view::npos) {
      return Corruption("vocabulary " + name + ", line " + std::to_string(lines.size() + 2) +
                        ": not a merge 'left right'");
    }
    lines.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  if (vocab_size != 0 && lines.size() < wanted) {
    return InvalidArgument("vocabulary " + name + " has " + std::to_string(lines.size()) +
                           " merges, so vocab_size is at most " +
                           std::to_string(lines.size() + kBpeFixedSymbols) + ", not " +
                           std::to_string(vocab_size));
  }
  std::unique_ptr<BpeVocabulary> vocabulary(new BpeVocabulary());
  for (const char* suffix : {"", "</w>"}) {
    for (const std::string& symbol : Symbols().text_of_id)
      vocabulary->tokens_.push_back(symbol + suffix);
  }
  for (const auto& [left, right] : lines)
    vocabulary->tokens_.push_back(std::string(left) + std::string(right));
  // A text that two merges make has the later one's id.
  std::unordered_map<std::string_view, int> id_of_text;
  for (size_t i = 0; i < vocabulary->tokens_.size(); ++i)
    id_of_text[vocabulary->tokens_[i]] = static_cast<int>(i);
  for (size_t i = 0; i < lines.size(); ++i) {
    const auto left = id_of_text.find(lines[i].first);
    const auto right = id_of_text.find(lines[i].second);
    if (left == id_of_text.end() || right == id_of_text.end()) {
      return Corruption("vocabulary " + name + ", line " + std::to_string(i + 2) +
                        ": merges a symbol that does not exist");
    }
    const int made = id_of_text[vocabulary->tokens_[i + 2 * kBpeByteSymbols]];
    vocabulary->merges_.try_emplace(PairKey(left->second, right->second),
                                    Merge{static_cast<int>(i), made});
  }
  return vocabulary;
}

BpeVocabulary::Merge BpeVocabulary::Find(int left, int right) const {
  const auto found = merges_.find(PairKey(left, right));
  return found == merges_.end() ? Merge{} : found->second;
}

std::string BpeVocabulary::Decode(const std::vector<int>& ids) const {
  std::string text;
  for (const int id : ids) {
    if (id < 0 || id >= static_cast<int>(tokens_.size())) continue;
    std::string_view token = tokens_[static_cast<size_t>(id)];
    const bool word_end = token.size() > 4 && token.substr(token.size() - 4) == "</w>";
    if (word_end) token.remove_suffix(4);
    for (size_t i = 0; i < token.size();) {
      const uint32_t c = NextCodePoint(token, &i);
      std::string symbol;
      AppendUtf8(c, &symbol);
      for (int byte = 0; byte < kBpeByteSymbols; ++byte) {
        if (BpeSymbolText(BpeByteId(static_cast<uint8_t>(byte))) == symbol)
          text += static_cast<char>(byte);
      }
    }
    if (word_end) text += ' ';
  }
  return text;
}

std::string CleanCaption(std::string_view text) {
  const std::string fixed = StraightenText(ToNfc(text));
  return ToLower(CollapseSpaces(UnescapeHtml(UnescapeHtml(fixed))));
}

std::vector<std::string_view> SplitWords(std::string_view text) {
  std::vector<std::string_view> words;
  while (!text.empty()) {
    const size_t length = WordLength(text);
    if (length > 0) words.push_back(text.substr(0, length));
    size_t next = length;
    if (length == 0) NextCodePoint(text, &next);
    text.remove_prefix(next);
  }
  return words;
}

const std::vector<int>& BpeTokenizer::EncodeWord(std::string_view word) {
  word_.assign(word);
  const auto cached = cache_.find(word_);
  if (cached != cache_.end()) return cached->second;
  std::vector<int> symbols;
  if (word == kStart || word == kEnd) {
    symbols.push_back(word == kStart ? vocabulary_.start_id() : vocabulary_.end_id());
  } else {
    for (const char byte : word) symbols.push_back(BpeByteId(static_cast<uint8_t>(byte)));
    symbols.back() += kBpeByteSymbols;
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
  std::vector<int> ids;
  const std::string clean = CleanCaption(text);
  for (const std::string_view word : SplitWords(clean)) {
    const std::vector<int>& word_ids = EncodeWord(word);
    ids.insert(ids.end(), word_ids.begin(), word_ids.end());
  }
  return ids;
}

int BpeTokenizer::EncodeInto(std::string_view text, int context, int32_t* ids) {
  WEFT_CHECK_GE(context, 2);
  const std::vector<int> encoded = Encode(text);
  const auto end = static_cast<int>(std::min(encoded.size(), static_cast<size_t>(context - 2))) + 1;
  ids[0] = vocabulary_.start_id();
  for (int i = 1; i < end; ++i) ids[i] = encoded[static_cast<size_t>(i - 1)];
  ids[end] = vocabulary_.end_id();
  std::fill(ids + end + 1, ids + context, 0);
  return end;
}

}  // namespace weft
