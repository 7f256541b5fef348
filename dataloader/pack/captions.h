// Captions of openclipart pictures from what their PNG texts and file names say, and the split by caption.
//
// Thread rule: pure functions; CaptionBook is immutable once made.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace weft {

struct PictureTexts {
  // Relative to the package's png folder: "animals/birds/owl_01.png".
  std::string path;
  std::string title;
  std::string description;
  std::string author;
};

// Counts titles and descriptions: one that many pictures share is a label of a collection, not a caption.
class CaptionBook {
 public:
  explicit CaptionBook(const std::vector<PictureTexts>& pictures);

  // The title, or the file's stem where the title is missing or a label; then the description, if it adds something.
  std::string Caption(const PictureTexts& picture) const;
  // The two parts by themselves; "": no description, or nothing new in it.
  std::string Title(const PictureTexts& picture) const;
  std::string Description(const PictureTexts& picture) const;
  bool HasOwnTitle(const PictureTexts& picture) const;

 private:
  bool IsRare(const std::map<std::string, int>& counts, const std::string& text) const;

  std::map<std::string, int> titles_;
  std::map<std::string, int> descriptions_;
};

// Questions and answers about a picture, from fixed templates: what it shows (its title), which words describe it (its
// folders), and what else there is to say (its description, unless ""). The first question holds the picture.
struct Exchange {
  std::string question;
  std::string answer;
};
std::vector<Exchange> AskAbout(const std::string& path, const std::string& title,
                               const std::string& description);

// tEXt is Latin-1 by the standard; where the bytes are valid UTF-8 they are taken as that.
std::string DecodePngText(const std::string& bytes);

// The caption as the split sees it: lower case, no digits at the end, single spaces.
std::string NormalizeCaption(std::string_view caption);
// FNV-1a 64 of the normalised caption mod 10 is 0.
bool IsHeldOut(std::string_view normalized_caption);

}  // namespace weft
