// Any bytes as the flat index of a shard. Its head is made to fit the shard first, else nothing behind the first check
// would be seen; the input is the index without that.
#include <cstring>

#include "cluster/base/hash.h"
#include "cluster/base/logging.h"
#include "dataloader/shard_index.h"
#include "tests/fuzz/fuzz_files.h"

namespace {

constexpr size_t kHead = 72;

void Put64(std::string* bytes, size_t at, uint64_t value) { std::memcpy(&(*bytes)[at], &value, 8); }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const weft::FuzzFolder folder;
  static const std::string path = folder.Write("s.tar", std::string(10240, '\0'));
  const auto file = weft::ShardFile::Open(path);
  WEFT_CHECK(file.ok());
  std::string bytes(weft::AsText(data, size));
  if (bytes.size() >= kHead) {
    std::memcpy(bytes.data(), "WEFTIDX1", 8);
    Put64(&bytes, 8, (*file)->disk_bytes());
    Put64(&bytes, 16, static_cast<uint64_t>((*file)->disk_time()));
    Put64(&bytes, 24, (*file)->size());
    const uint32_t crc = weft::Crc32c(bytes.data(), kHead - 4);
    std::memcpy(&bytes[kHead - 4], &crc, 4);
  }
  folder.Write("s.tar.index", bytes);
  const auto index = weft::ShardIndex::MapBeside(**file);
  if (!index) return 0;
  size_t sum = 0;
  for (int64_t i = 0; i < index->num_samples(); ++i) {
    sum += index->key(i).size();
    for (const weft::ShardMember& member : index->members(i))
      sum += index->extension(member).size();
  }
  WEFT_CHECK(sum <= bytes.size() * bytes.size());
  return 0;
}
