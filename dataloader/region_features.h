// Region features of a picture: what a detector said about it, taken before training (UNITER, LXMERT, ViLBERT). A member
// .regions of a sample (FORMAT.md); captions and answers are members of their own.
//
// Errors: Corruption (sizes that do not fit, numbers out of range). Thread rule: values.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/base/status.h"

namespace weft {

inline constexpr int kMaxRegions = 1024;

// K regions. Halves (f16) are kept as they are stored.
struct RegionFeatures {
  int width = 0;  // of the picture, pixels
  int height = 0;
  int feature_size = 0;  // 2048
  int classes = 0;       // 1601, class 0 is the background; 0: no class probabilities
  std::vector<std::array<float, 4>> boxes;  // x1, y1, x2, y2 in pixels
  std::vector<uint16_t> features;           // f16 [K, feature_size]
  std::vector<uint16_t> class_probability;  // f16 [K, classes]
  // [K] each, or empty.
  std::vector<int16_t> object_id;
  std::vector<uint16_t> object_confidence;  // f16
  std::vector<int16_t> attribute_id;
  std::vector<uint16_t> attribute_confidence;  // f16
};

bool LooksLikeRegionFeatures(std::string_view bytes);
StatusOr<RegionFeatures> ParseRegionFeatures(std::string_view bytes);
// REQUIRES: the vectors' sizes fit each other.
std::string SerializeRegionFeatures(const RegionFeatures& regions);

// x1/w, y1/h, x2/w, y2/h, width/w, height/h, area/(w h) of a box: UNITER takes all seven, LXMERT the first four, ViLBERT
// the first four and the last.
std::array<float, 7> BoxGeometry(const RegionFeatures& regions, size_t region);

}  // namespace weft
