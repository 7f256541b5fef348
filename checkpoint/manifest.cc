#include "checkpoint/manifest.h"

#include <cstdio>
#include <memory>
#include <tuple>
#include <vector>

#include "cluster/base/hash.h"

namespace weft {
namespace {

constexpr std::string_view kMagic = "WEFTMANI";
constexpr std::string_view kDirectoryPrefix = "step-";
constexpr std::string_view kManifestPrefix = "MANIFEST-";

void PutU64(uint64_t value, std::string* out) {
  for (int i = 0; i < 8; ++i) out->push_back(static_cast<char>(value >> (8 * i)));
}

uint64_t GetInt(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = bytes.size(); i > 0; --i) value = value << 8 | static_cast<uint8_t>(bytes[i - 1]);
  return value;
}

std::string NameText(std::string_view prefix, const CheckpointName& name) {
  char text[160];
  std::snprintf(
      text, sizeof text, "%.*s%06lld.E%llu.G%llu.A%lld", static_cast<int>(prefix.size()),
      prefix.data(), static_cast<long long>(name.step), static_cast<unsigned long long>(name.epoch),
      static_cast<unsigned long long>(name.generation), static_cast<long long>(name.attempt));
  return text;
}

std::optional<CheckpointName> ParseName(std::string_view prefix, std::string_view text) {
  if (text.substr(0, prefix.size()) != prefix) return std::nullopt;
  long long step = 0;
  long long attempt = 0;
  unsigned long long epoch = 0;
  unsigned long long generation = 0;
  const std::string rest(text.substr(prefix.size()));
  if (std::sscanf(rest.c_str(), "%lld.E%llu.G%llu.A%lld", &step, &epoch, &generation, &attempt) !=
      4) {
    return std::nullopt;
  }
  const CheckpointName name = {step, epoch, generation, attempt};
  // Only the spelling that we write counts: no signs, no leftovers, no other padding.
  if (NameText(prefix, name) != text) return std::nullopt;
  return name;
}

}  // namespace

CheckpointName NameOf(const checkpoint::Manifest& manifest) {
  return {manifest.state().step(), manifest.epoch(), manifest.generation(), manifest.attempt()};
}

std::string AttemptDirectoryName(const CheckpointName& name) {
  return NameText(kDirectoryPrefix, name);
}
std::string ManifestFileName(const CheckpointName& name) { return NameText(kManifestPrefix, name); }
std::optional<CheckpointName> ParseAttemptDirectoryName(std::string_view text) {
  return ParseName(kDirectoryPrefix, text);
}
std::optional<CheckpointName> ParseManifestFileName(std::string_view text) {
  return ParseName(kManifestPrefix, text);
}

std::string EncodeManifest(const checkpoint::Manifest& manifest) {
  const std::string payload = manifest.SerializeAsString();
  std::string bytes(kMagic);
  PutU64(payload.size(), &bytes);
  bytes += payload;
  const uint32_t crc = Crc32c(bytes.data(), bytes.size());
  for (int i = 0; i < 4; ++i) bytes.push_back(static_cast<char>(crc >> (8 * i)));
  return bytes;
}

uint32_t ManifestCrc(std::string_view encoded) {
  return encoded.size() < 4 ? 0 : static_cast<uint32_t>(GetInt(encoded.substr(encoded.size() - 4)));
}

StatusOr<checkpoint::Manifest> DecodeManifest(std::string_view bytes, const std::string& name) {
  const size_t overhead = kMagic.size() + 8 + 4;
  if (bytes.size() < overhead || bytes.substr(0, kMagic.size()) != kMagic) {
    return Corruption(name + ": it is not a manifest");
  }
  if (GetInt(bytes.substr(kMagic.size(), 8)) != bytes.size() - overhead) {
    return Corruption(name + ": it has " + std::to_string(bytes.size()) +
                      " bytes, not as many as its header says");
  }
  if (Crc32c(bytes.data(), bytes.size() - 4) != ManifestCrc(bytes)) {
    return Corruption(name + ": its CRC32C does not match its bytes");
  }
  checkpoint::Manifest manifest;
  const std::string_view payload = bytes.substr(kMagic.size() + 8, bytes.size() - overhead);
  if (!manifest.ParseFromArray(payload.data(), static_cast<int>(payload.size()))) {
    return Corruption(name + ": it does not parse");
  }
  if (manifest.format() != kManifestFormat) {
    return InvalidArgument(name + ": format " + std::to_string(manifest.format()) +
                           "; this program reads format " + std::to_string(kManifestFormat));
  }
  return manifest;
}

StatusOr<uint32_t> WriteManifest(FileSystem* fs, const std::string& checkpoint_dir,
                                 const checkpoint::Manifest& manifest) {
  const std::string path = JoinPath(checkpoint_dir, ManifestFileName(NameOf(manifest)));
  const std::string temporary = path + ".tmp";
  const std::string bytes = EncodeManifest(manifest);
  if (fs->Exists(temporary)) WEFT_RETURN_IF_ERROR(fs->Remove(temporary));
  WEFT_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, fs->CreateExclusive(temporary));
  Status status = file->Append(bytes);
  if (status.ok()) status = file->Sync();
  if (status.ok()) status = file->Close();
  if (status.ok()) status = fs->Link(temporary, path);
  (void)fs->Remove(temporary);
  if (status.ok()) status = fs->SyncDir(checkpoint_dir);
  if (!status.ok()) return status;
  return ManifestCrc(bytes);
}

StatusOr<std::string> FindManifest(FileSystem* fs, const std::string& path) {
  if (ParseManifestFileName(path.substr(path.rfind('/') + 1))) return path;
  const std::string directory = JoinPath(path, "ckpt");
  const auto names = fs->ListDir(directory);
  std::optional<CheckpointName> newest;
  for (const std::string& text : names.ok() ? *names : std::vector<std::string>()) {
    const std::optional<CheckpointName> name = ParseManifestFileName(text);
    const auto order = [](const CheckpointName& n) {
      return std::tie(n.step, n.epoch, n.generation, n.attempt);
    };
    if (name && (!newest || order(*newest) < order(*name))) newest = name;
  }
  if (!newest) {
    return NotFound(path +
                    ": neither a checkpoint (runs/a/ckpt/MANIFEST-...) nor the directory of a "
                    "run that has one");
  }
  return JoinPath(directory, ManifestFileName(*newest));
}

StatusOr<checkpoint::Manifest> ReadManifest(FileSystem* fs, const std::string& path) {
  WEFT_ASSIGN_OR_RETURN(const std::string bytes, fs->ReadFile(path));
  return DecodeManifest(bytes, path);
}

}  // namespace weft
