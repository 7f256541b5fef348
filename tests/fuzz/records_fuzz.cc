// Any bytes as JSON records and as region features.
#include "cluster/base/logging.h"
#include "dataloader/json_records.h"
#include "dataloader/region_features.h"
#include "tests/fuzz/fuzz_files.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const weft::FuzzFolder folder;
  const std::string_view bytes = weft::AsText(data, size);
  const auto regions = weft::ParseRegionFeatures(bytes);
  if (regions.ok()) WEFT_CHECK(weft::SerializeRegionFeatures(*regions) == bytes);
  const auto file = weft::ShardFile::Open(folder.Write("s.json", bytes));
  if (!file.ok()) return 0;
  weft::ShardIndexBuilder builder(**file, weft::ShardFormat::kJson, true);
  if (!weft::AddJsonSamples(**file, &builder).ok()) return 0;
  const weft::ShardIndex index = builder.Finish(weft::OkStatus());
  std::string record;
  for (int64_t i = 0; i < index.num_samples(); ++i) {
    const weft::ShardMember& member = index.members(i)[0];
    record.resize(member.size);
    WEFT_CHECK((*file)->ReadAt(member.offset, record.size(), record.data()).ok());
    const auto parts = weft::SplitRecord(record);
    WEFT_CHECK(parts.ok() && parts->parts.size() == index.members(i).size());
  }
  return 0;
}
