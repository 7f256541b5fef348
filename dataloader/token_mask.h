// Dynamic masking of one block for masked language modelling, as RoBERTa's reference does it: of L positions, special ones
// included, exactly n = floor(probability L + u) distinct ones are chosen, u uniform in [0, 1); a chosen position becomes
// <mask>, or a random token that is not special, or stays. Every draw is a function of (random's key, sample id, position).
//
// Thread rule: TokenMasker holds scratch and belongs to one thread.
#pragma once

#include <cstdint>
#include <vector>

#include "cluster/base/philox.h"
#include "cluster/config/recipe.pb.h"

namespace weft {

struct MaskTokens {
  int32_t mask_id = 0;
  // Random tokens come from [first, first + count).
  int32_t first = 0;
  int32_t count = 0;
};

class TokenMasker {
 public:
  TokenMasker(const MaskRecipe& recipe, const MaskTokens& tokens)
      : recipe_(recipe), tokens_(tokens) {}

  // Masks `length` ids in place; labels become the old id at chosen positions and kIgnoreLabel elsewhere. Returns how many
  // were chosen.
  int32_t Mask(const KeyedRandom& random, uint64_t sample_id, size_t length, int32_t* ids,
               int32_t* labels);

 private:
  const MaskRecipe recipe_;
  const MaskTokens tokens_;
  std::vector<uint32_t> positions_;
};

}  // namespace weft
