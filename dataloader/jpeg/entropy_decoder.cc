#include "dataloader/jpeg/entropy_decoder.h"

#include <algorithm>
#include <cstring>

#include "dataloader/jpeg/clones.h"

namespace weft::jpeg {

void BlockRows::Resize(int lines, int blocks) {
  lines_ = lines;
  groups_ = (blocks + kGroup - 1) / kGroup;
  const size_t count = Offset(lines, 0);
  if (coefficients_.size() < count * 256) coefficients_.resize(count * 256);
  if (extents_.size() < count * kGroup) extents_.resize(count * kGroup);
}

void BlockRows::Clear(int begin, int end) {
  const auto count = static_cast<size_t>(end - begin);
  for (int line = 0; line < lines_; ++line) {
    std::memset(group(line, begin), 0, count * 256 * sizeof(int16_t));
    std::memset(extents(line, begin), 0, count * kGroup);
  }
}

template <typename Table>
const Table* TableCache<Table>::Get(const HuffmanSpec& spec) {
  const auto known = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const auto& entry) { return entry->spec == spec; });
  if (known != entries_.end()) {
    std::rotate(known, known + 1, entries_.end());
    return &entries_.back()->table;
  }
  if (entries_.size() < kEntries) {
    entries_.push_back(std::make_unique<Entry>());
  } else {
    std::rotate(entries_.begin(), entries_.begin() + 1, entries_.end());
  }
  Entry& entry = *entries_.back();
  entry.spec = spec;
  entry.table.Build(spec);
  return &entry.table;
}

namespace {

using Reader = EntropyDecoder::Reader;

// Where zigzag position k lies in a group; positions behind the block are the last one's (Pair says why).
struct GroupOrder {
  std::array<uint8_t, 128> offset;

  constexpr GroupOrder() : offset() {
    constexpr int kOrder[64] = {0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,
                                12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6,  7,  14, 21, 28,
                                35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
                                58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};
    for (size_t k = 0; k < 128; ++k) {
      const int natural = k < 64 ? kOrder[k] : 63;
      offset[k] = static_cast<uint8_t>((natural >> 3) * 32 + (natural & 7));
    }
  }
};
constexpr GroupOrder kGroupOrder;

// At least 56 valid bits.
WEFT_ALWAYS_INLINE void Refill(Reader* r) {
  uint64_t word;
  std::memcpy(&word, r->next, 8);
  r->bits |= __builtin_bswap64(word) >> r->count;
  r->next += (63 - r->count) >> 3;
  r->count |= 56;
}

WEFT_ALWAYS_INLINE void Skip(Reader* r, int bits) {
  r->bits <<= bits;
  r->count -= bits;
}

struct Step {
  Reader reader;
  int k = 0;  // 65 to 127: too many zeros at the block's end
  bool ok = false;
};

// One coefficient, however long its code; not ok: no such code, or too many zeros. By value: what the loop around it works
// on never leaves its registers.
template <bool kStore>
__attribute__((noinline)) Step DecodeSingle(Reader r, const CodeTable& codes, int16_t* block,
                                            int k) {
  const Code code = codes.Find(r.bits);
  if (code.length() == 0) return Step();
  if (code.size() == 0) {
    Skip(&r, code.length());
    k += code.run() == 15 ? 16 : Pair::kEnd;
    return Step{r, k, true};
  }
  k += code.run();
  if (k > 63) return Step();
  if (kStore)
    block[kGroupOrder.offset[static_cast<size_t>(k)]] =
        static_cast<int16_t>(Extend(r.bits << code.length(), code.size()));
  Skip(&r, code.bits());
  return Step{r, k + 1, true};
}

// Up to two coefficients, at most 26 bits; false: broken data. *k >= Pair::kEnd: the block ends.
// REQUIRES: 0 < *k < 64.
template <bool kStore>
WEFT_ALWAYS_INLINE bool DecodePair(Reader* r, const AcTable& ac, int16_t* block, int* k) {
  const Pair pair = ac.Find(r->bits);
  // A long code, or one behind which this block may hold no more.
  if (__builtin_expect(*k + pair.first() >= 63, 0)) {
    const Step step = DecodeSingle<kStore>(*r, ac.codes(), block, *k);
    *r = step.reader;
    *k = step.k;
    return step.ok;
  }
  if (kStore) {
    const uint8_t* order = kGroupOrder.offset.data() + *k;
    block[order[pair.first()]] = pair.value();
    block[order[pair.second()]] =
        static_cast<int16_t>(Extend(r->bits << (pair.length() - pair.size()), pair.size()));
  }
  Skip(r, pair.length());
  *k += pair.advance();
  return true;
}

// One block; *end: how many zigzag positions it covers. The reader may run past the segment's end by what one block takes.
template <bool kStore>
WEFT_ALWAYS_INLINE bool DecodeBlock(Reader* r, const CodeTable& dc, const AcTable& ac,
                                    int* prediction, int16_t* block, uint8_t* end) {
  Refill(r);
  const Code code = dc.Find(r->bits);
  if (__builtin_expect(code.length() == 0, 0)) return false;
  *prediction += Extend(r->bits << code.length(), code.size());
  Skip(r, code.bits());
  if (kStore) block[0] = static_cast<int16_t>(*prediction);
  int k = 1;
  if (!DecodePair<kStore>(r, ac, block, &k)) return false;
  while (k < 64) {
    Refill(r);
    if (!DecodePair<kStore>(r, ac, block, &k)) return false;
    if (k >= 64) break;
    if (!DecodePair<kStore>(r, ac, block, &k)) return false;
  }
  if (kStore) *end = static_cast<uint8_t>(k & 127);
  return k == 64 || k >= Pair::kEnd;
}

struct McuRun {
  const EntropyDecoder::Slot* slots;
  size_t num_slots;
  const uint8_t* segment_end;
  int* prediction;
};

// MCUs [begin, end) of a row. False: broken data.
WEFT_PIXEL_CLONES bool DecodeMcus(const McuRun& run, int begin, int end, Reader* reader,
                                  McuRow* row) {
  Reader r = *reader;
  for (int mcu = begin; mcu < end; ++mcu) {
    for (size_t i = 0; i < run.num_slots; ++i) {
      const EntropyDecoder::Slot& slot = run.slots[i];
      const int x = mcu * slot.per_mcu + slot.x;
      BlockRows& rows = (*row)[static_cast<size_t>(slot.component)];
      int16_t* block = rows.group(slot.line, x >> 2) + 8 * (x & 3);
      uint8_t* extent = rows.extents(slot.line, x >> 2) + (x & 3);
      if (!DecodeBlock<true>(&r, *slot.dc, *slot.ac, run.prediction + slot.component, block,
                             extent))
        return false;
    }
    if (r.next - (r.count >> 3) > run.segment_end) return false;
  }
  *reader = r;
  return true;
}

WEFT_PIXEL_CLONES bool SkipMcus(const McuRun& run, int begin, int end, Reader* reader) {
  Reader r = *reader;
  for (int mcu = begin; mcu < end; ++mcu) {
    for (size_t i = 0; i < run.num_slots; ++i) {
      const EntropyDecoder::Slot& slot = run.slots[i];
      if (!DecodeBlock<false>(&r, *slot.dc, *slot.ac, run.prediction + slot.component, nullptr,
                              nullptr))
        return false;
    }
    if (r.next - (r.count >> 3) > run.segment_end) return false;
  }
  *reader = r;
  return true;
}

}  // namespace

bool EntropyDecoder::Start(const Header& header, std::string_view bytes) {
  const Component& first = header.components[0];
  mcus_x_ = (header.width + 8 * first.h - 1) / (8 * first.h);
  mcus_y_ = (header.height + 8 * first.v - 1) / (8 * first.v);
  const int64_t mcus = static_cast<int64_t>(mcus_x_) * mcus_y_;
  interval_ = header.restart_interval;
  num_segments_ = interval_ == 0 ? 1 : static_cast<size_t>((mcus + interval_ - 1) / interval_);
  if (!scan_.Read(bytes.substr(header.scan_begin), num_segments_)) return false;
  slots_.clear();
  for (int c = 0; c < header.num_components; ++c) {
    const Component& component = header.components[static_cast<size_t>(c)];
    Slot slot;
    slot.dc = dc_cache_.Get(header.dc[static_cast<size_t>(component.dc)]);
    slot.ac = ac_cache_.Get(header.ac[static_cast<size_t>(component.ac)]);
    slot.component = c;
    slot.per_mcu = component.h;
    for (slot.line = 0; slot.line < component.v; ++slot.line)
      for (slot.x = 0; slot.x < component.h; ++slot.x) slots_.push_back(slot);
  }
  segment_index_ = 0;
  left_in_segment_ = 0;
  return NextSegment();
}

bool EntropyDecoder::NextSegment() {
  if (segment_index_ >= num_segments_) return false;
  segment_ = scan_.segment(segment_index_++);
  reader_ = Reader{segment_.begin, 0, 0};
  left_in_segment_ = interval_ == 0 ? INT32_MAX : interval_;
  prediction_ = {};
  return true;
}

// Whole bytes that nobody asked for are not how an encoder ends a segment.
bool EntropyDecoder::AtSegmentEnd() const {
  const int64_t used = (reader_.next - segment_.begin) * 8 - reader_.count;
  const int64_t given = (segment_.end - segment_.begin) * 8;
  return used <= given && given - used < 8;
}

bool EntropyDecoder::DecodeRow(int mcu_begin, int mcu_end, McuRow* row) {
  if (row == nullptr) mcu_begin = mcu_end = 0;
  int mcu = 0;
  while (mcu < mcus_x_) {
    if (left_in_segment_ == 0 && !(AtSegmentEnd() && NextSegment())) return false;
    const bool keep = mcu >= mcu_begin && mcu < mcu_end;
    const int stop = keep ? mcu_end : mcu < mcu_begin ? mcu_begin : mcus_x_;
    const int end = std::min<int64_t>(stop, static_cast<int64_t>(mcu) + left_in_segment_);
    const McuRun run{slots_.data(), slots_.size(), segment_.end, prediction_.data()};
    if (!(keep ? DecodeMcus(run, mcu, end, &reader_, row) : SkipMcus(run, mcu, end, &reader_)))
      return false;
    left_in_segment_ -= end - mcu;
    mcu = end;
  }
  return true;
}

}  // namespace weft::jpeg
