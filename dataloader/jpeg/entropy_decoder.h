// Huffman-coded blocks to quantised coefficients, one row of MCUs after the other.
//
// The same coefficients as libjpeg-turbo's, or false: broken data are left to it. Reads nothing outside the bytes given to
// Start and writes nothing outside the rows given to DecodeRow, whatever the bytes are.
// Thread rule: belongs to one thread at a time.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "dataloader/jpeg/huffman.h"
#include "dataloader/jpeg/jpeg_header.h"
#include "dataloader/jpeg/scan_bytes.h"

namespace weft::jpeg {

// Coefficients of the blocks of one component in one row of MCUs. Four neighbours lie interleaved, as the SIMD transforms
// read them: coefficient (row, column) of block x of a line is at group(line, x / 4)[32 * row + 8 * (x % 4) + column].
class BlockRows {
 public:
  static constexpr int kGroup = 4;

  void Resize(int lines, int blocks);
  // Groups [begin, end) of all lines become zeros.
  void Clear(int begin, int end);

  int lines() const { return lines_; }
  int16_t* group(int line, int index) { return coefficients_.data() + Offset(line, index) * 256; }
  const int16_t* group(int line, int index) const {
    return coefficients_.data() + Offset(line, index) * 256;
  }
  // Of a block, or of a group's four: zigzag positions behind this one are zero.
  uint8_t* extents(int line, int index) { return extents_.data() + Offset(line, index) * kGroup; }
  const uint8_t* extents(int line, int index) const {
    return extents_.data() + Offset(line, index) * kGroup;
  }

 private:
  size_t Offset(int line, int index) const {
    return static_cast<size_t>(line) * static_cast<size_t>(groups_) + static_cast<size_t>(index);
  }

  int lines_ = 0;
  int groups_ = 0;
  std::vector<int16_t> coefficients_;
  std::vector<uint8_t> extents_;
};

using McuRow = std::array<BlockRows, 3>;

// Tables of the last files, the latest last: most files share a few, and building one costs microseconds. A pointer holds
// for the next kEntries - 1 calls.
template <typename Table>
class TableCache {
 public:
  const Table* Get(const HuffmanSpec& spec);

 private:
  static constexpr size_t kEntries = 8;
  struct Entry {
    HuffmanSpec spec;
    Table table;
  };
  std::vector<std::unique_ptr<Entry>> entries_;
};

class EntropyDecoder {
 public:
  // REQUIRES: `header` comes from ParseHeader of `bytes`, and lives as long as the scan is read.
  bool Start(const Header& header, std::string_view bytes);

  // The next row of MCUs. Blocks of MCUs in [mcu_begin, mcu_end) go to `row`, which is null if none is wanted.
  bool DecodeRow(int mcu_begin, int mcu_end, McuRow* row);

  // After the last row: nothing is left of the scan.
  bool AtSegmentEnd() const;

  int mcus_x() const { return mcus_x_; }
  int mcus_y() const { return mcus_y_; }

  // Bits not yet used: `count` at the top of `bits`, then the bytes at `next`.
  struct Reader {
    const uint8_t* next = nullptr;
    uint64_t bits = 0;
    int count = 0;
  };
  // A block of an MCU: tables, where its component's DC prediction is, where it goes.
  struct Slot {
    const CodeTable* dc = nullptr;
    const AcTable* ac = nullptr;
    int component = 0;
    int x = 0;
    int line = 0;
    int per_mcu = 1;  // blocks of the component in a line of an MCU
  };

 private:
  bool NextSegment();

  TableCache<CodeTable> dc_cache_;
  TableCache<AcTable> ac_cache_;
  ScanBytes scan_;
  std::vector<Slot> slots_;
  Reader reader_;
  ScanBytes::Segment segment_;
  size_t segment_index_ = 0;
  size_t num_segments_ = 0;
  int mcus_x_ = 0;
  int mcus_y_ = 0;
  int interval_ = 0;
  int left_in_segment_ = 0;
  std::array<int, 3> prediction_{};
};

}  // namespace weft::jpeg
