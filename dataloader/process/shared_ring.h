// One worker's region of the memory that it shares with its node's loader: a request, its answer, and a ring of cells, one
// micro-batch each. Everything carries the request's id, a number that the agent never gives out twice: what another
// generation's worker or an older loader left behind is not even seen.
//
//   reader 0                 request = id          (the text first)
//   loader                   reply = id            (the text first); produced = (id, 0)
//   loader, per micro-batch  waits for room; fills cell n mod cells; produced (id, n) -> (id, n + 1) by compare-exchange
//   reader r                 waits for produced > n; reads; consumed[r] = (id, n + 1)
//
// A loader that takes over from a dead one goes on at `produced`: cells below it are whole, the one above it is written
// anew. All waiting is in slices, so a ring of the bell that never comes (its ringer died) costs one slice.
//
// Thread rule: as the table says who writes what.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/base/bell.h"
#include "cluster/base/status.h"
#include "dataloader/loader_options.h"
#include "dataloader/micro_batch.h"
#include "dataloader/process/loader_message.pb.h"
#include "dataloader/process/ring_loader.h"

namespace weft {

// A count under a request's id. Zero: nothing under any id.
struct RingPosition {
  static uint64_t Pack(uint64_t id, uint64_t count) { return id << 40 | count; }
  // 0 where `packed` belongs to another id.
  static uint64_t Count(uint64_t packed, uint64_t id) {
    return packed >> 40 == id ? packed & ((uint64_t{1} << 40) - 1) : 0;
  }
};

// A text that counts once `id` says whose it is.
struct RingText {
  std::atomic<uint64_t> id;
  uint64_t bytes;
};

struct RingControl {
  // Workers write these.
  alignas(64) RingText request;
  Bell loader_bell;
  struct alignas(64) Consumed {
    std::atomic<uint64_t> position;
  };
  std::array<Consumed, kMaxRingReaders> consumed;
  // The loader writes these.
  alignas(64) RingText reply;
  // What ended the request: a LoaderReply with a code. It comes after all that was produced.
  RingText failure;
  alignas(64) std::atomic<uint64_t> produced;
  Bell worker_bell;
};

// Where things lie in a cell: a CellHeader, then sample ids, label counts and each field, 64-byte aligned.
struct CellHeader {
  uint64_t sequence;
  int64_t step;
  int32_t slot;
  int32_t micro_batch;
  // Distinct bad samples that the loader has met under this request.
  int64_t bad_samples;
  LoaderTimes times;
};

class CellLayout {
 public:
  CellLayout() = default;
  CellLayout(std::vector<FieldSpec> fields, int64_t samples);
  size_t bytes() const { return bytes_; }
  const std::vector<FieldSpec>& fields() const { return fields_; }
  void Write(const MicroBatch& batch, const CellHeader& header, std::byte* cell) const;
  // Reuses the memory of `batch`.
  CellHeader Read(const std::byte* cell, MicroBatch* batch) const;

 private:
  std::vector<FieldSpec> fields_;
  size_t samples_ = 0;
  size_t bytes_ = 0;
};

class SharedRing {
 public:
  // Bytes of a region that are not cells.
  static constexpr size_t kControlBytes = size_t{260} << 10;

  // REQUIRES: the region is larger than kControlBytes.
  explicit SharedRing(std::span<std::byte> region);

  RingControl& control() const { return *reinterpret_cast<RingControl*>(region_.data()); }
  size_t data_bytes() const { return region_.size() - kControlBytes; }
  std::byte* Cell(uint64_t sequence, size_t cells, size_t cell_bytes) const {
    return region_.data() + kControlBytes + sequence % cells * cell_bytes;
  }

  // Texts. Writing: ResourceExhausted (too long). Reading: "" unless it is `id`'s and its length is possible.
  Status WriteRequest(uint64_t id, std::string_view text) const;
  Status WriteReply(uint64_t id, std::string_view text) const;
  Status WriteFailure(uint64_t id, std::string_view text) const;
  std::string ReadRequest(uint64_t id) const;
  std::string ReadReply(uint64_t id) const;
  std::string ReadFailure(uint64_t id) const;

 private:
  std::span<std::byte> region_;
};

LoaderRequest ToRequest(const LoaderOptions& options);
LoaderOptions ToOptions(const LoaderRequest& request);
LoaderReply ToReply(const Status& status);
Status ToStatus(const LoaderReply& reply);
}  // namespace weft
