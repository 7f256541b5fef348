#include "dataloader/energon.h"

#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "cluster/base/file_system.h"

namespace weft {
namespace {

constexpr uint64_t kBlock = 512;

std::string IndexPath(const std::string& shard_path) { return shard_path + ".idx"; }

// Where Energon sees samples begin, and last the end of the last one.
std::vector<uint64_t> Offsets(const ShardIndex& index) {
  std::vector<uint64_t> offsets;
  uint64_t end = 0;
  for (int64_t i = 0; i < index.num_samples(); ++i) {
    const IndexedSample& sample = index.sample(i);
    // Its first sample begins at 0, whatever is skipped before it.
    offsets.push_back(i == 0 ? 0 : sample.begin);
    end = (sample.begin + sample.size + kBlock - 1) / kBlock * kBlock;
  }
  offsets.push_back(end);
  return offsets;
}

}  // namespace

StatusOr<std::vector<EnergonShard>> ReadEnergonInfo(const std::string& path) {
  WEFT_ASSIGN_OR_RETURN(const std::string text, PosixFileSystem()->ReadFile(path));
  // The order of the shards is the order in the file.
  const auto info = nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!info.is_object() || !info.contains("shard_counts") || !info["shard_counts"].is_object())
    return Corruption(path + ": no \"shard_counts\": this is not Energon's list of shards");
  const std::string folder = ParentPath(ParentPath(path));
  std::vector<EnergonShard> shards;
  for (const auto& [name, count] : info["shard_counts"].items()) {
    if (!count.is_number_unsigned())
      return Corruption(path + ": the number of samples of " + name + " is none");
    shards.push_back({JoinPath(folder, name), count.get<uint64_t>()});
  }
  return shards;
}

Status CheckEnergonIndex(const std::string& shard_path, const ShardIndex& index) {
  const std::string path = IndexPath(shard_path);
  if (!PosixFileSystem()->Exists(path)) return OkStatus();
  WEFT_ASSIGN_OR_RETURN(const std::string bytes, PosixFileSystem()->ReadFile(path));
  const std::vector<uint64_t> expected = Offsets(index);
  std::vector<uint64_t> found(bytes.size() / 8);
  if (!found.empty()) std::memcpy(found.data(), bytes.data(), found.size() * 8);
  if (!found.empty()) found[0] = 0;
  // What follows the last sample (skipped members) counts to it for Energon.
  const bool same_end = found.empty() || found.back() >= expected.back();
  if (!found.empty()) found.back() = expected.back();
  if (bytes.size() % 8 == 0 && same_end && found == expected) return OkStatus();
  return Corruption(path + " is of another tar than " + shard_path + ": it names " +
                    std::to_string(found.empty() ? 0 : found.size() - 1) +
                    " samples or other places, the tar has " + std::to_string(index.num_samples()) +
                    "; make it again with `energon prepare`, or remove it");
}

Status WriteEnergonIndex(const std::string& shard_path, const ShardIndex& index) {
  const std::vector<uint64_t> offsets = Offsets(index);
  return WriteFileDurably(PosixFileSystem(), IndexPath(shard_path),
                          {reinterpret_cast<const char*>(offsets.data()), offsets.size() * 8});
}

}  // namespace weft
