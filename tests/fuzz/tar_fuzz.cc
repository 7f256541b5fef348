// Any bytes as a shard: indexed with and without checksums, every member read.
#include "cluster/base/logging.h"
#include "dataloader/shard_index.h"
#include "tests/fuzz/fuzz_files.h"

namespace weft {
namespace {

void ReadAll(const ShardFile& file, const ShardIndex& index) {
  std::string bytes;
  for (int64_t i = 0; i < index.num_samples(); ++i) {
    WEFT_CHECK(!index.members(i).empty());
    for (const ShardMember& member : index.members(i)) {
      WEFT_CHECK(index.Find(i, index.extension(member)) == &member);
      bytes.resize(member.size);
      WEFT_CHECK(file.ReadAt(member.offset, bytes.size(), bytes.data()).ok());
    }
  }
}

}  // namespace
}  // namespace weft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const weft::FuzzFolder folder;
  const auto file = weft::ShardFile::Open(folder.Write("s.tar", weft::AsText(data, size)));
  if (!file.ok()) return 0;
  const auto index = weft::ShardIndex::Build(**file, weft::CutShards::kKeepWholeSamples);
  if (index.ok()) weft::ReadAll(**file, *index);
  const auto strict = weft::ShardIndex::BuildWithChecksums(**file);
  if (strict.ok()) {
    weft::ReadAll(**file, *strict);
    WEFT_CHECK(index.ok() && index->contents_crc() == strict->contents_crc());
  }
  return 0;
}
