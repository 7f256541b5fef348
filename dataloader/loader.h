// From shards on disk to micro-batches in memory. What micro-batch (step, slot, micro_batch) holds is a pure function of
// the data set, the recipe and the seed; threads and ranks only decide who computes it when. The loader's state is a
// cursor: the next step.
//
// Thread rule: one consumer thread calls Next; decoding runs on the loader's own threads.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"

namespace weft {

// Which parts of a sample a consumer wants: a pipeline stage asks only for what its blocks read.
struct BatchParts {
  bool pixels = true;
  bool ids = true;
};

// One micro-batch of one slot.
struct MicroBatch {
  int64_t step = 0;
  int slot = 0;
  int micro_batch = 0;
  std::vector<int64_t> sample_ids;  // b
  std::vector<uint8_t> pixels;      // b * 3 * image_size * image_size, RGB planes, u8
  std::vector<int32_t> ids;         // b * context_length, zero-padded
  std::vector<int32_t> eot;         // b: position of the end-of-text token
};

struct LoaderOptions {
  DataRecipe data;
  BatchRecipe batch;
  uint64_t seed = 0;
  int image_size = 0;
  int context_length = 0;
  // Entries of the vocabulary: its file's first vocab_size - 514 merges are used. 0: all, at most CLIP's 49408.
  int vocab_size = 0;
  // Slots [first_slot, first_slot + num_slots) are this consumer's.
  int first_slot = 0;
  int num_slots = 1;
  int64_t first_step = 0;
  int64_t end_step = 0;
  BatchParts parts;
};

class Loader {
 public:
  virtual ~Loader() = default;
  // Opens shards and vocabulary and starts the threads.
  // Errors: NotFound, Corruption, InvalidArgument: name the shard or the recipe's field.
  static StatusOr<std::unique_ptr<Loader>> Open(const LoaderOptions& options);
  // The next micro-batch in the order step, slot, micro-batch. Blocks until it is ready; a sample that cannot be decoded is
  // replaced (and logged) by the next one of its window. Errors: Unavailable (I/O), Corruption (too many bad samples).
  virtual StatusOr<MicroBatch> Next() = 0;
  // Gives a used micro-batch's memory back; not needed for correctness.
  virtual void Recycle(MicroBatch batch) = 0;
  // Identity of the data set: goes into every checkpoint.
  virtual const std::string& manifest_hash() const = 0;
  virtual int64_t num_samples() const = 0;
};

// Evaluation: each sample of the shards once, in order.
struct EvalSample {
  std::string key;
  std::string caption;
  std::string image_bytes;  // as stored; JPEG, PNG or WebP, told by the first bytes
};
class EvalSet {
 public:
  virtual ~EvalSet() = default;
  static StatusOr<std::unique_ptr<EvalSet>> Open(const LoaderOptions& options);
  virtual int64_t size() const = 0;
  // Samples [begin, end), decoded with resize and centre crop; step, slot and micro_batch are 0.
  virtual StatusOr<MicroBatch> Read(int64_t begin, int64_t end) = 0;
  virtual StatusOr<EvalSample> Sample(int64_t index) = 0;
};

}  // namespace weft
