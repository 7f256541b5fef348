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
#include "dataloader/loader_options.h"
#include "dataloader/micro_batch.h"
#include "dataloader/sample_source.h"

namespace weft {

// What a loader's threads did since the first call of times(), in seconds of all of them together, of one row in eight: what
// counts is their proportion.
struct LoaderTimes {
  // On a core: decoding, resizing, tokenizing.
  double decode_s = 0;
  // Waiting for bytes of a shard.
  double read_s = 0;
  // Ready to run, but no core was free.
  double core_wait_s = 0;
};

class Loader {
 public:
  virtual ~Loader() = default;
  // Opens shards and vocabulary and starts the threads.
  // Errors: NotFound, Corruption, InvalidArgument: name the shard or the recipe's field.
  static StatusOr<std::unique_ptr<Loader>> Open(const LoaderOptions& options);
  // The next micro-batch in the order step, slot, micro-batch. Blocks until it is ready; a sample that cannot be used is
  // replaced (and logged) by the next one of its window. Errors: Unavailable (I/O), Corruption (too many bad samples).
  virtual StatusOr<MicroBatch> Next() = 0;
  // Gives a used micro-batch's memory back; not needed for correctness.
  virtual void Recycle(MicroBatch batch) = 0;
  // Identity of the data set: goes into every checkpoint.
  virtual const std::string& manifest_hash() const = 0;
  virtual int64_t num_samples() const = 0;
  // Distinct samples that this loader met and replaced.
  virtual int64_t num_bad_samples() const = 0;
  // What a consumer gets in each micro-batch. Empty where the micro-batches themselves say it.
  virtual std::vector<FieldSpec> fields() const { return {}; }
  virtual LoaderTimes times() const { return {}; }
};

// Evaluation: each sample of the shards once, in order.
class EvalSet {
 public:
  virtual ~EvalSet() = default;
  // options.slots is not looked at.
  static StatusOr<std::unique_ptr<EvalSet>> Open(const LoaderOptions& options);
  virtual int64_t size() const = 0;
  // Samples [begin, end), images resized and cut to their centre; step, slot and micro_batch are 0.
  virtual StatusOr<MicroBatch> Read(int64_t begin, int64_t end) = 0;
  virtual StatusOr<EvalSample> Sample(int64_t index) = 0;
};

}  // namespace weft
