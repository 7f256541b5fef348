// What a loader is asked for: plain values of the recipe, so that no part of the loader knows a model.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cluster/config/recipe.pb.h"

namespace weft {

// What a sample is and which fields it becomes ([b, ...]):
enum class SampleFamily {
  // An image and its caption (CLIP): pixels u8 [3, size, size]; ids i32 [context], zero-padded; eot i32 [], the place of the
  // end-of-text token.
  kImageText,
  // A block of text with a mask of its own in each epoch (RoBERTa): ids i32 [context], padded with <pad>; labels i32
  // [context], kIgnoreLabel where no loss looks; mask u8 [context], 1: a token.
  kMaskedText,
  // A picture and what is said about it, or text only (LLaVA): pixels u8 [3, size, size]; ids i32 [context], where the
  // picture's place is `patches` wide and holds zeros; labels and mask as above; image_at i32 [], the picture's first
  // position, -1: there is none, and pixels are zeros.
  // Packed (pictures > 0): several conversations of a shard, one behind the other, and up to P pictures: pixels u8 [P, 3, size,
  // size]; ids and labels as above; segment_at i32 [context], where the token's conversation begins (padding: its own place);
  // image_at i32 [P], the pictures' first positions, rising, -1 behind the last.
  kConversation,
};

struct LoaderOptions {
  SampleFamily family = SampleFamily::kImageText;
  DataRecipe data;
  BatchRecipe batch;
  uint64_t seed = 0;
  // Pixels of an image's side.
  int image_size = 0;
  // Tokens of a row.
  int context_length = 0;
  // Positions that a picture takes in a conversation.
  int patches = 0;
  // P: most pictures of a packed row of conversations; 0: rows are not packed.
  int pictures = 0;
  // Entries of the vocabulary: as many of its file's merges are used as that needs. 0: all (image-text: at most CLIP's 49408).
  int vocab_size = 0;
  // This consumer's slots, rising.
  std::vector<int> slots;
  // The slots of all consumers of this machine, which share data.cache_dir; empty: those of the whole run.
  std::vector<int> node_slots;
  int64_t first_step = 0;
  int64_t end_step = 0;
  // Micro-batches from first_step on that the consumer has already: a loader that takes over begins behind them.
  int64_t skip = 0;
  // Names of the fields that the consumer reads; not set: all of the family. What nobody asks for is not made.
  std::optional<std::vector<std::string>> fields;

  // One set of a mix (SampleMix fills these in): the key of its order, augmentation and masks; the recipe's field that names
  // its shards; see DataSetRecipe.
  std::string set_name = "train";
  std::string set_field = "data.train_shards";
  std::string text_field;
};

}  // namespace weft
