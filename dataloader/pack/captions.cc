#include "dataloader/pack/captions.h"

#include "cluster/base/hash.h"
#include "cluster/base/text.h"
#include "dataloader/html_entities.h"
#include "dataloader/unicode.h"

namespace weft {
namespace {

// A text that more pictures have is a label.
constexpr int kMaxSharing = 8;
constexpr uint64_t kHeldOutModulus = 10;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

void StripTrailingDigits(std::string* text) {
  while (!text->empty() && IsDigit(text->back())) text->pop_back();
}

void ReplaceAll(char from, char to, std::string* text) {
  for (char& c : *text) c = c == from ? to : c;
}

// Entities, "Clipart by X - ", underscores, digits at the end, spaces.
std::string CleanTitle(std::string_view raw) {
  std::string text = CollapseSpaces(UnescapeHtml(raw));
  constexpr std::string_view kBy = "clipart by ";
  if (ToLower(text.substr(0, kBy.size())) == kBy) {
    const size_t dash = text.find(" - ");
    if (dash != std::string::npos) text.erase(0, dash + 3);
  }
  ReplaceAll('_', ' ', &text);
  StripTrailingDigits(&text);
  return CollapseSpaces(text);
}

std::string StemAsText(const std::string& path) {
  std::string stem = path.substr(path.find_last_of('/') + 1);
  stem = stem.substr(0, stem.find_last_of('.'));
  ReplaceAll('-', ' ', &stem);
  std::string text = CleanTitle(stem);
  if (!text.empty()) return text;
  // A stem of digits only: the folder says what it is.
  const std::vector<std::string> parts = Split(path, '/');
  return parts.size() < 2 ? "picture" : CleanTitle(parts[parts.size() - 2]);
}

// Lower case, letters and digits only: how two texts are compared.
std::string Bare(std::string_view text) {
  std::string bare;
  const std::string lower = ToLower(text);
  for (size_t i = 0; i < lower.size();) {
    const uint32_t c = NextCodePoint(lower, &i);
    if (IsLetter(c) || IsNumber(c)) AppendUtf8(c, &bare);
  }
  return bare;
}

}  // namespace

CaptionBook::CaptionBook(const std::vector<PictureTexts>& pictures) {
  for (const PictureTexts& picture : pictures) {
    ++titles_[CollapseSpaces(picture.title)];
    ++descriptions_[CollapseSpaces(picture.description)];
  }
}

bool CaptionBook::IsRare(const std::map<std::string, int>& counts, const std::string& text) const {
  const auto found = counts.find(text);
  return !text.empty() && found != counts.end() && found->second <= kMaxSharing;
}

bool CaptionBook::HasOwnTitle(const PictureTexts& picture) const {
  return IsRare(titles_, CollapseSpaces(picture.title));
}

std::string CaptionBook::Title(const PictureTexts& picture) const {
  std::string title = HasOwnTitle(picture) ? CleanTitle(picture.title) : "";
  return title.empty() ? StemAsText(picture.path) : title;
}

std::string CaptionBook::Description(const PictureTexts& picture) const {
  const std::string description = CollapseSpaces(picture.description);
  const bool usable = IsRare(descriptions_, description) &&
                      description.find('@') == std::string::npos &&
                      description.find("http") == std::string::npos;
  const std::string text = CollapseSpaces(UnescapeHtml(description));
  const std::string bare = Bare(text);
  // Nothing new: the description is a part of the title.
  const bool adds = !bare.empty() && Bare(Title(picture)).find(bare) == std::string::npos;
  return usable && adds ? text : "";
}

std::string CaptionBook::Caption(const PictureTexts& picture) const {
  const std::string description = Description(picture);
  return Title(picture) + (description.empty() ? "" : ". " + description);
}

std::vector<Exchange> AskAbout(const std::string& path, const std::string& title,
                               const std::string& description) {
  std::vector<std::string> words = Split(path, '/');
  words.pop_back();
  for (std::string& word : words) ReplaceAll('_', ' ', &word);
  std::vector<Exchange> exchanges = {{"<image>\nWhat does this picture show?", title}};
  if (!words.empty()) exchanges.push_back({"Which words describe it?", Join(words, ", ")});
  if (!description.empty()) exchanges.push_back({"What else is there to say?", description});
  return exchanges;
}

std::string DecodePngText(const std::string& bytes) {
  return IsValidUtf8(bytes) ? bytes : Latin1ToUtf8(bytes);
}

std::string NormalizeCaption(std::string_view caption) {
  std::string text = CollapseSpaces(ToLower(caption));
  StripTrailingDigits(&text);
  return CollapseSpaces(text);
}

bool IsHeldOut(std::string_view normalized_caption) {
  return Fnv1a64(normalized_caption) % kHeldOutModulus == 0;
}

}  // namespace weft
