// Any bytes as a column over a data set of three shards; the checksum of the head and the hash at the end are made to fit.
#include <cstring>

#include "cluster/base/hash.h"
#include "dataloader/column_overlay.h"
#include "tests/fuzz/fuzz_files.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const weft::FuzzFolder folder;
  constexpr size_t kHead = 40;
  std::string bytes(weft::AsText(data, size));
  if (bytes.size() >= kHead) {
    const uint32_t crc = weft::Crc32c(bytes.data(), kHead - 4);
    std::memcpy(&bytes[kHead - 4], &crc, 4);
  }
  const std::string hash(64, 'h');
  const std::vector<uint64_t> samples = {5, 0, 100};
  const auto column = weft::ColumnOverlay::Open(folder.Write("c", bytes + hash), hash, samples);
  if (!column.ok()) return 0;
  for (int64_t shard = 0; shard < 4; ++shard) {
    for (int64_t index = 0; index < 101; ++index) {
      const auto value = (*column)->Read(shard, index);
      if (value.ok() && value->has_value()) bytes += **value;
    }
  }
  return 0;
}
