// Names and bytes of manifests and attempt directories (FORMAT.md).
//
// A manifest is written to a temporary file, synced, and linked to its final name, which fails if that name is taken: no
// manifest is ever overwritten. It counts only once the coordinator's journal has a COMMIT for it.
//
// Errors: AlreadyExists, Corruption (the file does not verify), the file system's. Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "checkpoint/manifest.pb.h"
#include "cluster/base/file_system.h"
#include "cluster/base/status.h"

namespace weft {

inline constexpr int kManifestFormat = 1;

// What the name of an attempt says; names are never used twice, because (epoch, generation, attempt) never are.
struct CheckpointName {
  int64_t step = 0;
  uint64_t epoch = 0;
  uint64_t generation = 0;
  int64_t attempt = 0;
  bool operator==(const CheckpointName&) const = default;
};
CheckpointName NameOf(const checkpoint::Manifest& manifest);

std::string AttemptDirectoryName(const CheckpointName& name);  // step-001000.E1.G2.A1
std::string ManifestFileName(const CheckpointName& name);      // MANIFEST-001000.E1.G2.A1
// Nothing if `text` is not such a name.
std::optional<CheckpointName> ParseAttemptDirectoryName(std::string_view text);
std::optional<CheckpointName> ParseManifestFileName(std::string_view text);

std::string EncodeManifest(const checkpoint::Manifest& manifest);
// `name` is for the message.
StatusOr<checkpoint::Manifest> DecodeManifest(std::string_view bytes, const std::string& name);
// The CRC32C that ends an encoded manifest: its identity in the journal.
uint32_t ManifestCrc(std::string_view encoded);

// Writes <checkpoint_dir>/<ManifestFileName> durably; returns its CRC. AlreadyExists if the name is taken.
StatusOr<uint32_t> WriteManifest(FileSystem* fs, const std::string& checkpoint_dir,
                                 const checkpoint::Manifest& manifest);
// The manifest that `path` means: the file itself, or of a run directory the one with the most steps.
// Errors: NotFound names the directory.
StatusOr<std::string> FindManifest(FileSystem* fs, const std::string& path);
// `path` is the manifest file itself.
StatusOr<checkpoint::Manifest> ReadManifest(FileSystem* fs, const std::string& path);

}  // namespace weft
