#include "dataloader/bpe_vocabulary.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <utility>

#include "cluster/base/hash.h"
#include "cluster/base/text.h"
#include "dataloader/unicode.h"

namespace weft {
namespace {

// Inflated; OpenAI's is 3.2 MB.
constexpr size_t kMaxFileBytes = size_t{256} << 20;
constexpr std::string_view kWordEnd = "</w>";

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

using MergeLine = std::pair<std::string_view, std::string_view>;

// At most `wanted` lines after the head line.
StatusOr<std::vector<MergeLine>> ParseMerges(std::string_view text, size_t wanted,
                                             const std::string& name) {
  std::vector<MergeLine> lines;
  size_t begin = std::min(text.find('\n'), text.size() - 1) + 1;
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
  return lines;
}

bool EndsWord(std::string_view symbol) {
  return symbol.size() > kWordEnd.size() &&
         symbol.substr(symbol.size() - kWordEnd.size()) == kWordEnd;
}

// A file of another style gives ids all the same, only bad ones.
Status CheckStyle(std::string_view text, const std::vector<MergeLine>& lines, BpeStyle style,
                  const std::string& name) {
  const bool byte_file =
      text.substr(0, text.find('\n')).find(kByteLevelHead) != std::string_view::npos;
  if (HasWordEnds(style) && byte_file) {
    return InvalidArgument("vocabulary " + name +
                           " has no word ends, which CLIP's text needs; `weft data vocab --style "
                           "clip` makes one");
  }
  const bool word_ends = std::any_of(lines.begin(), lines.end(),
                                     [](const MergeLine& line) { return EndsWord(line.second); });
  if (HasWordEnds(style) || !word_ends) return OkStatus();
  return InvalidArgument("vocabulary " + name +
                         " is one of CLIP's style (with </w>); `weft data vocab --style " +
                         (style == BpeStyle::kRoberta ? "roberta" : "llava") + "` makes another");
}

}  // namespace

int BpeByteId(uint8_t byte) { return Symbols().id_of_byte[byte]; }
const std::string& BpeSymbolText(int byte_id) {
  return Symbols().text_of_id[static_cast<size_t>(byte_id)];
}

std::vector<std::string> BpeBaseSymbols(BpeStyle style) {
  std::vector<std::string> symbols(Symbols().text_of_id.begin(), Symbols().text_of_id.end());
  if (!HasWordEnds(style)) return symbols;
  for (const std::string& symbol : Symbols().text_of_id)
    symbols.push_back(symbol + kWordEnd.data());
  return symbols;
}

int BpeFixedEntries(BpeStyle style) {
  switch (style) {
    case BpeStyle::kClip:
      return 2 * kBpeByteSymbols + 2;
    case BpeStyle::kRoberta:
      return 4 + kBpeByteSymbols + 1;
    case BpeStyle::kLlava:
      break;
  }
  return 3 + kBpeByteSymbols;
}

StatusOr<std::unique_ptr<BpeVocabulary>> BpeVocabulary::Load(const std::string& path,
                                                             int vocab_size, BpeStyle style) {
  WEFT_ASSIGN_OR_RETURN(const std::string text, ReadMaybeGzip(path));
  return Parse(text, vocab_size, path, style);
}

StatusOr<std::unique_ptr<BpeVocabulary>> BpeVocabulary::Parse(std::string_view text, int vocab_size,
                                                              const std::string& name,
                                                              BpeStyle style) {
  const int fixed = BpeFixedEntries(style);
  if (vocab_size != 0 && vocab_size < fixed) {
    return InvalidArgument("vocab_size " + std::to_string(vocab_size) +
                           ": a vocabulary of this model has at least " + std::to_string(fixed) +
                           " entries");
  }
  int entries = vocab_size == 0 ? INT_MAX : vocab_size;
  if (vocab_size == 0 && style == BpeStyle::kClip) entries = kClipVocabSize;
  const auto wanted = static_cast<size_t>(entries - fixed);
  WEFT_ASSIGN_OR_RETURN(const std::vector<MergeLine> lines, ParseMerges(text, wanted, name));
  if (vocab_size != 0 && lines.size() < wanted) {
    return InvalidArgument("vocabulary " + name + " has " + std::to_string(lines.size()) +
                           " merges, so vocab_size is at most " +
                           std::to_string(lines.size() + static_cast<size_t>(fixed)) + ", not " +
                           std::to_string(vocab_size));
  }
  WEFT_RETURN_IF_ERROR(CheckStyle(text, lines, style, name));
  std::unique_ptr<BpeVocabulary> vocabulary(new BpeVocabulary(style));
  vocabulary->tokens_ = BpeBaseSymbols(style);
  const size_t first_merge = vocabulary->tokens_.size();
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
    const int made = id_of_text[vocabulary->tokens_[i + first_merge]];
    vocabulary->merges_.try_emplace(PairKey(left->second, right->second),
                                    Merge{static_cast<int>(i), made});
  }
  return vocabulary;
}

int BpeVocabulary::size() const {
  return first_symbol() + num_symbols() +
         (style_ == BpeStyle::kClip ? 2 : static_cast<int>(style_ == BpeStyle::kRoberta));
}

int BpeVocabulary::first_symbol() const {
  if (style_ == BpeStyle::kClip) return 0;
  return style_ == BpeStyle::kRoberta ? 4 : 3;
}

int BpeVocabulary::start_id() const {
  if (style_ == BpeStyle::kClip) return size() - 2;
  return style_ == BpeStyle::kRoberta ? 0 : 1;
}

int BpeVocabulary::end_id() const { return style_ == BpeStyle::kClip ? size() - 1 : 2; }

std::string BpeVocabulary::Fingerprint() const {
  return Sha256Hex(std::to_string(static_cast<int>(style_)) + '\n' + Join(tokens_, "\n"));
}

BpeVocabulary::Merge BpeVocabulary::Find(int left, int right) const {
  const auto found = merges_.find(PairKey(left, right));
  return found == merges_.end() ? Merge{} : found->second;
}

std::string BpeVocabulary::Decode(const std::vector<int>& ids) const {
  std::string text;
  for (const int id : ids) {
    const int symbol_id = id - first_symbol();
    if (symbol_id < 0 || symbol_id >= num_symbols()) continue;
    std::string_view token = tokens_[static_cast<size_t>(symbol_id)];
    const bool word_end = HasWordEnds(style_) && EndsWord(token);
    if (word_end) token.remove_suffix(kWordEnd.size());
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

}  // namespace weft
