// Any bytes as an MDS shard: every member read.
#include "cluster/base/logging.h"
#include "dataloader/mds_shard.h"
#include "tests/fuzz/fuzz_files.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const weft::FuzzFolder folder;
  const auto file = weft::ShardFile::Open(folder.Write("s.mds", weft::AsText(data, size)));
  if (!file.ok() || !weft::LooksLikeMds(**file)) return 0;
  weft::ShardIndexBuilder builder(**file, weft::ShardFormat::kMds, true);
  if (!weft::AddMdsSamples(**file, &builder).ok()) return 0;
  const weft::ShardIndex index = builder.Finish(weft::OkStatus());
  std::string bytes;
  for (int64_t i = 0; i < index.num_samples(); ++i) {
    for (const weft::ShardMember& member : index.members(i)) {
      WEFT_CHECK(member.size <= (*file)->size());
      bytes.resize(member.size);
      WEFT_CHECK((*file)->ReadAt(member.offset, bytes.size(), bytes.data()).ok());
    }
  }
  return 0;
}
