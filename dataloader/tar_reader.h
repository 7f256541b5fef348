// Walks the members of a tar archive by reading headers only: USTAR, PAX ('x' and 'g': path, size), GNU long names ('L')
// and base-256 sizes (dataloader/FORMAT.md). Sparse members are refused.
//
// Errors: Corruption (checksum, size, a shard that ends in the middle), with the shard's name and the byte.
// Thread rule: one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "cluster/base/status.h"
#include "dataloader/shard_file.h"

namespace weft {

struct TarMember {
  std::string name;
  // First byte of everything that belongs to the member, its extended headers included.
  uint64_t begin = 0;
  uint64_t data_offset = 0;
  uint64_t size = 0;
};

class TarReader {
 public:
  // REQUIRES: `file` outlives the reader.
  explicit TarReader(const ShardBytes& file) : file_(file) {}

  // The next regular member; nullopt at the end of the archive. After an error the reader stays where it was.
  StatusOr<std::optional<TarMember>> Next();

 private:
  // What an extended header says about the next member (or, for 'g', about all later ones).
  struct Overrides {
    std::optional<std::string> path;
    std::optional<uint64_t> size;
  };

  struct Header {
    char type = 0;
    uint64_t data = 0;
    uint64_t size = 0;
    bool IsExtension() const { return type == 'x' || type == 'g' || type == 'L' || type == 'K'; }
  };

  Status Error(uint64_t offset, const std::string& what) const;
  // Reads the header block at `offset`. False: the end of the archive.
  StatusOr<bool> ReadHeader(uint64_t offset, char* block) const;
  StatusOr<Header> ParseHeader(uint64_t offset, const char* block,
                               const Overrides& overrides) const;
  StatusOr<std::string> ReadExtension(uint64_t offset, uint64_t size) const;
  Status ParsePax(uint64_t offset, std::string_view records, Overrides* overrides) const;
  Status ApplyExtension(const Header& header, Overrides* overrides);

  const ShardBytes& file_;
  uint64_t position_ = 0;
  Overrides global_;
};

// Whether the file begins with a tar header, or with the zero blocks of an empty tar.
bool LooksLikeTar(const ShardBytes& bytes);

// WebDataset's rule (`^((?:.*/|)[^.]+)[.]([^/]*)$`): the key is the directory and the base name up to its first dot, the
// extension is the rest, lower-cased. False if the name has no such form or is one of the `__meta__` names.
bool SplitMemberName(std::string_view name, std::string* key, std::string* extension);

}  // namespace weft
