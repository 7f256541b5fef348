#include "dataloader/text_shard.h"

#include <algorithm>

#include "cluster/base/hash.h"
#include "dataloader/shard_index.h"

namespace weft {
namespace {

constexpr size_t kPiece = size_t{1} << 20;
constexpr std::string_view kSpaces = " \t\r\n\v\f";

bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

std::string_view Trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(kSpaces);
  if (begin == std::string_view::npos) return "";
  return text.substr(begin, text.find_last_not_of(kSpaces) - begin + 1);
}

// Cuts what it is fed into lines.
class Sentences {
 public:
  explicit Sentences(const std::function<void(std::string_view)>& sentence) : sentence_(sentence) {}

  void Feed(std::string_view bytes) {
    for (size_t end = bytes.find('\n'); end != std::string_view::npos; end = bytes.find('\n')) {
      line_ += bytes.substr(0, end);
      EndLine();
      bytes.remove_prefix(end + 1);
    }
    line_ += bytes;
  }

  void EndDocument() {
    EndLine();
    between_ = any_;
  }

 private:
  void EndLine() {
    const std::string_view line = Trim(line_);
    if (line.empty()) {
      between_ = any_;
    } else {
      if (between_) sentence_("");
      between_ = false;
      any_ = true;
      sentence_(line);
    }
    line_.clear();
  }

  const std::function<void(std::string_view)>& sentence_;
  std::string line_;
  bool any_ = false;
  bool between_ = false;
};

Status ForEachPiece(const ShardFile& shard, uint64_t begin, uint64_t size,
                    const std::function<void(std::string_view)>& use) {
  std::string piece;
  for (uint64_t at = 0; at < size; at += piece.size()) {
    piece.resize(static_cast<size_t>(std::min<uint64_t>(kPiece, size - at)));
    WEFT_RETURN_IF_ERROR(shard.ReadAt(begin + at, piece.size(), piece.data()));
    use(piece);
  }
  return OkStatus();
}

}  // namespace

bool IsPlainText(const std::string& path) {
  return EndsWith(path, ".txt") || EndsWith(path, ".txt.gz");
}

Status ReadSentences(const ShardFile& shard, const std::vector<std::string>& text_extensions,
                     const std::function<void(std::string_view)>& sentence) {
  Sentences sentences(sentence);
  const auto feed = [&sentences](std::string_view piece) { sentences.Feed(piece); };
  if (IsPlainText(shard.path())) {
    WEFT_RETURN_IF_ERROR(ForEachPiece(shard, 0, shard.size(), feed));
    sentences.EndDocument();
    return OkStatus();
  }
  WEFT_ASSIGN_OR_RETURN(const ShardIndex index, ShardIndex::Build(shard));
  for (int64_t i = 0; i < index.num_samples(); ++i) {
    const ShardMember* member = nullptr;
    for (const std::string& extension : text_extensions) {
      if (member == nullptr) member = index.Find(i, extension);
    }
    if (member == nullptr) {
      return Corruption("shard " + shard.path() + ", sample '" + std::string(index.key(i)) +
                        "': no text member (data.text_extension)");
    }
    WEFT_RETURN_IF_ERROR(ForEachPiece(shard, member->offset, member->size, feed));
    sentences.EndDocument();
  }
  return OkStatus();
}

StatusOr<std::string> ContentHash(const ShardFile& shard) {
  std::string hashes;
  WEFT_RETURN_IF_ERROR(ForEachPiece(
      shard, 0, shard.size(), [&hashes](std::string_view piece) { hashes += Sha256Hex(piece); }));
  return Sha256Hex(hashes);
}

}  // namespace weft
