// A sample as it is stored, whatever its format: {key, media[], texts[], fields}. Several pictures, lists of pictures,
// interleaved documents (a text in which "<image>" stands for the next picture), region features and text alone are one type.
//
// Thread rule: values.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace weft {

enum class MediaKind { kImage, kRegionFeatures };

struct Media {
  MediaKind kind = MediaKind::kImage;
  std::string name;  // the member's extension
  std::string bytes;
  int width = 0;  // 0: the header does not parse
  int height = 0;
};

struct Sample {
  std::string key;
  std::vector<Media> media;
  std::vector<std::string> texts;
  // All else by extension: "json", "cls", columns of numbers, ...
  std::map<std::string, std::string> fields;
};

// Of members (extension, bytes). Media are those whose bytes begin as a picture or as region features; texts those whose
// extension's last part is txt, text, transcript or caption. Both in the order of their names (jpg, 1.jpg, 2.jpg, ..., 10.jpg).
Sample MakeSample(std::string key, std::vector<std::pair<std::string, std::string>> members);

// "3.seg.png" -> "png".
std::string_view LastPart(std::string_view extension);

}  // namespace weft
