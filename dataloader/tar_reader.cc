#include "dataloader/tar_reader.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstring>
#include <utility>

namespace weft {
namespace {

constexpr uint64_t kBlock = 512;
// Longest extended header that is believed.
constexpr uint64_t kMaxExtension = uint64_t{1} << 20;

uint64_t RoundUp(uint64_t size) { return (size + kBlock - 1) / kBlock * kBlock; }

// A field that ends at its first NUL or at its full length.
std::string_view Field(const char* block, size_t offset, size_t length) {
  const char* begin = block + offset;
  return {begin, ::strnlen(begin, length)};
}

// An octal field, or base-256 where the first byte's top bit is set. Nullopt: neither, or too large.
std::optional<uint64_t> ParseNumber(const char* block, size_t offset, size_t length) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(block + offset);
  uint64_t value = 0;
  if (bytes[0] & 0x80) {
    if (bytes[0] != 0x80) return std::nullopt;  // negative, or above 2^88
    for (size_t i = 1; i < length; ++i) {
      if (value >> 55) return std::nullopt;
      value = value << 8 | bytes[i];
    }
    return value;
  }
  size_t i = 0;
  while (i < length && bytes[i] == ' ') ++i;
  for (; i < length && bytes[i] != 0 && bytes[i] != ' '; ++i) {
    if (bytes[i] < '0' || bytes[i] > '7') return std::nullopt;
    value = value << 3 | static_cast<uint64_t>(bytes[i] - '0');
  }
  return value;
}

// The header's checksum: its bytes with the checksum field as spaces. Some old tars summed signed bytes.
bool ChecksumMatches(const char* block) {
  const std::optional<uint64_t> stored = ParseNumber(block, 148, 8);
  int64_t sum_unsigned = 0;
  int64_t sum_signed = 0;
  for (size_t i = 0; i < kBlock; ++i) {
    const char byte = i >= 148 && i < 156 ? ' ' : block[i];
    sum_unsigned += static_cast<unsigned char>(byte);
    sum_signed += static_cast<signed char>(byte);
  }
  return stored && (static_cast<int64_t>(*stored) == sum_unsigned ||
                    static_cast<int64_t>(*stored) == sum_signed);
}

bool IsZero(const char* block) {
  return std::all_of(block, block + kBlock, [](char byte) { return byte == 0; });
}

std::string HeaderName(const char* block) {
  const std::string_view name = Field(block, 0, 100);
  // GNU's magic is "ustar " and it keeps other things in the prefix.
  const bool posix = std::memcmp(block + 257, "ustar\0", 6) == 0;
  const std::string_view prefix = posix ? Field(block, 345, 155) : std::string_view();
  if (prefix.empty()) return std::string(name);
  return std::string(prefix) + "/" + std::string(name);
}

bool IsRegular(char type) { return type == '0' || type == '\0' || type == '7'; }
// Types whose size field counts no data: links, devices, directories, FIFOs.
bool HasNoData(char type) { return type >= '1' && type <= '6'; }

}  // namespace

Status TarReader::Error(uint64_t offset, const std::string& what) const {
  return Corruption("shard " + file_.path() + ", byte " + std::to_string(offset) + ": " + what);
}

StatusOr<bool> TarReader::ReadHeader(uint64_t offset, char* block) const {
  if (offset + kBlock > file_.size()) {
    return Error(offset,
                 "the shard ends without the zero blocks that close a tar: it was cut, or it is "
                 "still being written");
  }
  WEFT_RETURN_IF_ERROR(file_.ReadAt(offset, kBlock, block));
  if (IsZero(block)) return false;
  if (!ChecksumMatches(block)) return Error(offset, "no tar header here (its checksum is wrong)");
  return true;
}

StatusOr<TarReader::Header> TarReader::ParseHeader(uint64_t offset, const char* block,
                                                   const Overrides& overrides) const {
  Header header{block[156], offset + kBlock, 0};
  std::optional<uint64_t> size = ParseNumber(block, 124, 12);
  if (!header.IsExtension() && overrides.size) size = overrides.size;
  if (HasNoData(header.type)) size = 0;
  if (!size) return Error(offset, "a size field that is no number");
  if (header.type == 'S') return Error(offset, "a sparse member; write the shard without --sparse");
  if (header.data > file_.size() || *size > file_.size() - header.data) {
    return Error(offset, "a member of " + std::to_string(*size) +
                             " bytes starts here, but the shard ends at byte " +
                             std::to_string(file_.size()) +
                             ": it was cut, or its copy is not complete");
  }
  header.size = *size;
  return header;
}

StatusOr<std::string> TarReader::ReadExtension(uint64_t offset, uint64_t size) const {
  if (size > kMaxExtension)
    return Error(offset, "an extended header of " + std::to_string(size) + " bytes");
  std::string bytes(size, '\0');
  WEFT_RETURN_IF_ERROR(file_.ReadAt(offset, size, bytes.data()));
  return bytes;
}

// Records "LEN KEY=VALUE\n", where LEN counts the whole record.
Status TarReader::ParsePax(uint64_t offset, std::string_view records, Overrides* overrides) const {
  while (!records.empty() && records[0] != '\0') {
    size_t length = 0;
    const auto [end, code] =
        std::from_chars(records.data(), records.data() + records.size(), length);
    const auto digits = static_cast<size_t>(end - records.data());
    if (code != std::errc() || length > records.size() || length < digits + 3 || *end != ' ' ||
        records[length - 1] != '\n') {
      return Error(offset, "a PAX header that does not parse");
    }
    const std::string_view record = records.substr(digits + 1, length - digits - 2);
    const size_t equals = record.find('=');
    if (equals == std::string_view::npos) return Error(offset, "a PAX record without '='");
    const std::string_view key = record.substr(0, equals);
    const std::string_view value = record.substr(equals + 1);
    if (key == "path") {
      overrides->path = std::string(value);
    } else if (key == "size") {
      uint64_t size = 0;
      const auto parsed = std::from_chars(value.data(), value.data() + value.size(), size);
      if (parsed.ec != std::errc() || parsed.ptr != value.data() + value.size()) {
        return Error(offset, "a PAX size that is no number");
      }
      overrides->size = size;
    } else if (key.substr(0, 11) == "GNU.sparse.") {
      return Error(offset, "a sparse member; write the shard without --sparse");
    }
    records.remove_prefix(length);
  }
  return OkStatus();
}

Status TarReader::ApplyExtension(const Header& header, Overrides* overrides) {
  if (header.type == 'K') return OkStatus();  // a long link target: links are skipped
  WEFT_ASSIGN_OR_RETURN(const std::string bytes, ReadExtension(header.data, header.size));
  if (header.type == 'L') overrides->path = bytes.substr(0, bytes.find('\0'));
  if (header.type == 'x') return ParsePax(header.data, bytes, overrides);
  if (header.type == 'g') {
    WEFT_RETURN_IF_ERROR(ParsePax(header.data, bytes, &global_));
    *overrides = global_;
  }
  return OkStatus();
}

StatusOr<std::optional<TarMember>> TarReader::Next() {
  uint64_t cursor = position_;
  uint64_t begin = position_;
  Overrides overrides = global_;
  char block[kBlock];
  while (true) {
    WEFT_ASSIGN_OR_RETURN(const bool more, ReadHeader(cursor, block));
    if (!more) {
      if (begin != cursor) return Error(cursor, "the archive ends after an extended header");
      position_ = cursor;
      return std::optional<TarMember>();
    }
    WEFT_ASSIGN_OR_RETURN(const Header header, ParseHeader(cursor, block, overrides));
    // The padding after the data may be missing in a cut shard: the next ReadHeader says so.
    cursor = header.data + RoundUp(header.size);
    if (header.IsExtension()) {
      WEFT_RETURN_IF_ERROR(ApplyExtension(header, &overrides));
      continue;
    }
    TarMember member{overrides.path.value_or(HeaderName(block)), begin, header.data, header.size};
    // In old tars a directory is a regular member whose name ends in '/'.
    const bool old_directory =
        header.type == '\0' && !member.name.empty() && member.name.back() == '/';
    if (IsRegular(header.type) && !old_directory) {
      position_ = cursor;
      return {std::move(member)};
    }
    overrides = global_;
    begin = cursor;
  }
}

bool LooksLikeTar(const ShardBytes& bytes) {
  char block[kBlock];
  if (bytes.size() < kBlock || !bytes.ReadAt(0, kBlock, block).ok()) return false;
  return IsZero(block) || ChecksumMatches(block);
}

bool SplitMemberName(std::string_view name, std::string* key, std::string* extension) {
  const size_t first_slash = name.find('/');
  const std::string_view top = name.substr(0, first_slash);
  if (top.size() >= 4 && top.substr(0, 2) == "__" && top.substr(top.size() - 2) == "__")
    return false;
  const size_t slash = name.rfind('/');
  const size_t base = slash == std::string_view::npos ? 0 : slash + 1;
  const size_t dot = name.find('.', base);
  if (dot == std::string_view::npos) return false;
  if (dot == base) {
    // ".hidden" has a key only if the directory before it can be the key: "dir/" without a dot in its last component.
    if (base == 0) return false;
    const size_t previous = base >= 2 ? name.rfind('/', base - 2) : std::string_view::npos;
    const size_t component = previous == std::string_view::npos ? 0 : previous + 1;
    if (name.substr(component, base - component).find('.') != std::string_view::npos) return false;
  }
  *key = std::string(name.substr(0, dot));
  *extension = std::string(name.substr(dot + 1));
  for (char& c : *extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return true;
}

}  // namespace weft
