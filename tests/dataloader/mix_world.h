// Mixes of three data sets in which some samples are bad, for mix_resume_test.cc: packed conversations, pictures with captions,
// blocks of text. What cannot be made ends the test program.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>

#include "dataloader/loader.h"

namespace weft {

// V, and the samples of the sets.
inline constexpr int kMixSlots = 24;
inline constexpr int kMixSizes[] = {1500, 950, 400};

// What is measured in a world, whatever its family.
class MixWorld {
 public:
  explicit MixWorld(LoaderOptions options) : options_(std::move(options)) {}
  virtual ~MixWorld() = default;

  const LoaderOptions& options() const { return options_; }
  // Ids of samples that are replaced, counted over all sets.
  const std::set<int64_t>& bad() const { return bad_; }
  // Looks into a micro-batch of the straight run.
  virtual void Check(const MicroBatch&) const {}
  virtual nlohmann::ordered_json Figures() const { return nlohmann::ordered_json::object(); }

 protected:
  LoaderOptions options_;
  std::set<int64_t> bad_;
};

// Pictures with captions, or blocks of text, in files below `dir`.
std::unique_ptr<MixWorld> MakeSimpleWorld(const std::string& dir, SampleFamily family);

// Packed conversations, with pictures and without.
std::unique_ptr<MixWorld> MakePackedWorld(const std::string& dir);

// What all worlds have in common.
LoaderOptions UsualMixOptions(SampleFamily family);

// Whether sample `i` of the set has a picture that is cut short.
bool IsBadOfMix(int set, int i);

// Returns `path`.
std::string WriteMixFile(const std::string& path, const std::string& bytes);

}  // namespace weft
