// Any text as a manifest, and as an exclusion that is laid over it: what stands before a line "----" is the manifest
// without its last line, the rest the exclusion. Checksums and the file of places are made to fit, else nothing behind
// them would be seen; "SHA256" in the text stands for the exclusion's hash.
#include <cstdlib>

#include "cluster/base/hash.h"
#include "cluster/base/logging.h"
#include "cluster/base/text.h"
#include "dataloader/manifest.h"
#include "tests/fuzz/fuzz_files.h"

namespace weft {
namespace {

constexpr uint64_t kMaxSamples = 20'000;

// Places that fit the manifest, if it is small.
std::string PlacesOf(const std::string& lines) {
  std::vector<ManifestShard> shards;
  uint64_t pages = 1;
  for (const std::string& line : Split(lines, '\n')) {
    const std::vector<std::string> fields = Split(line, '\t');
    if (fields.size() != 5 || fields[0] != "shard") continue;
    const uint64_t samples = std::strtoull(fields[3].c_str(), nullptr, 10);
    if (samples > kMaxSamples || shards.size() > 100) return "";
    shards.push_back({fields[1], std::strtoull(fields[2].c_str(), nullptr, 10), samples,
                      static_cast<uint32_t>(std::strtoull(fields[4].c_str(), nullptr, 10))});
    pages += (samples * sizeof(SamplePlace) + 4095) / 4096;
  }
  std::string places(pages * 4096, '\0');
  places.replace(0, 8, "WEFTPLC1");
  return places + ManifestHash(shards);
}

void Use(const Manifest& manifest) {
  uint64_t total = 0;
  for (const uint64_t size : manifest.ShardSizes()) total += size;
  WEFT_CHECK(static_cast<int64_t>(total) == manifest.num_samples());
  int64_t shard = 0;
  for (int64_t id = 0; id < manifest.num_samples(); id += 1 + id / 16) {
    const StatusOr<LocatedSample> sample = manifest.Locate(id);
    WEFT_CHECK(sample.ok()) << sample.status();
    WEFT_CHECK(sample->shard >= shard);
    shard = sample->shard;
    WEFT_CHECK(static_cast<uint64_t>(sample->index) <
               manifest.shards()[static_cast<size_t>(shard)].samples);
  }
}

}  // namespace
}  // namespace weft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const weft::FuzzFolder folder;
  const std::string_view text = weft::AsText(data, size);
  const size_t cut = text.find("----\n");
  std::string lines(text.substr(0, cut));
  const std::string exclusion(cut == std::string_view::npos ? "" : text.substr(cut + 5));
  folder.Write("x.exclude", exclusion);
  const size_t hash = lines.find("SHA256");
  if (hash != std::string::npos) lines.replace(hash, 6, weft::Sha256Hex(exclusion));
  folder.Write("t.manifest.places", weft::PlacesOf(lines));
  lines += "end\t" + std::to_string(weft::Crc32c(lines.data(), lines.size())) + "\n";
  const auto manifest = weft::Manifest::Open(folder.Write("t.manifest", lines));
  if (manifest.ok()) weft::Use(**manifest);
  return 0;
}
