#include "checkpoint/shard_format.h"

#include <array>
#include <cstdio>
#include <cstring>
#include <utility>

#include "cluster/base/hash.h"

namespace weft {
namespace {

constexpr std::string_view kHeaderMagic = "WEFTSHRD";
constexpr std::string_view kTrailerMagic = "WEFTEND\n";
constexpr size_t kHeaderCrcOffset = kShardHeaderBytes - 4;
constexpr size_t kTrailerCrcOffset = kShardTrailerBytes - 12;

// Little-endian whatever the host.
template <typename T>
void PutInt(T value, std::string* out) {
  for (size_t i = 0; i < sizeof(T); ++i) {
    out->push_back(static_cast<char>(static_cast<uint64_t>(value) >> (8 * i)));
  }
}

std::string FileLabel(const checkpoint::ShardInfo& info) {
  return info.file().empty() ? ShardFileName(info.rank(), info.world_size()) : info.file();
}

// The footer's copy cannot know the size of the file that it is part of.
std::string FooterPayload(const checkpoint::ShardInfo& info) {
  checkpoint::ShardInfo copy = info;
  copy.clear_file_bytes();
  return copy.SerializeAsString();
}

}  // namespace

int DtypeBytes(std::string_view dtype) {
  static constexpr std::array<std::pair<std::string_view, int>, 7> kTypes = {
      {{"f32", 4}, {"f64", 8}, {"bf16", 2}, {"f16", 2}, {"i64", 8}, {"i32", 4}, {"u8", 1}}};
  for (const auto& [name, bytes] : kTypes) {
    if (name == dtype) return bytes;
  }
  return 0;
}

int64_t NumElements(const checkpoint::Slice& slice) {
  int64_t n = 1;
  for (const int64_t length : slice.global_shape()) n *= length;
  return n;
}

int64_t BoxElements(const checkpoint::Slice& slice) {
  int64_t n = 1;
  for (const int64_t length : slice.lengths()) n *= length;
  return n;
}

uint64_t SliceBytes(const checkpoint::Slice& slice) {
  return static_cast<uint64_t>(slice.flat_end() - slice.flat_begin()) *
         static_cast<uint64_t>(DtypeBytes(slice.dtype()));
}

Status CheckSlice(const checkpoint::Slice& slice) {
  const auto bad = [&](const std::string& what) {
    return InvalidArgument("slice of tensor '" + slice.tensor() + "': " + what);
  };
  if (slice.tensor().empty()) return bad("it has no name");
  if (DtypeBytes(slice.dtype()) == 0) return bad("unknown dtype '" + slice.dtype() + "'");
  const int rank = slice.global_shape_size();
  if (slice.offsets_size() != rank || slice.lengths_size() != rank) {
    return bad("offsets and lengths need one number a dimension of the shape");
  }
  int64_t elements = 1;
  for (int d = 0; d < rank; ++d) {
    const int64_t size = slice.global_shape(d);
    const int64_t offset = slice.offsets(d);
    const int64_t length = slice.lengths(d);
    if (size < 0 || offset < 0 || length < 0 || offset > size || length > size - offset) {
      return bad("box [" + std::to_string(offset) + ", +" + std::to_string(length) +
                 ") leaves dimension " + std::to_string(d) + " of size " + std::to_string(size));
    }
    if (__builtin_mul_overflow(elements, size, &elements) || elements > (int64_t{1} << 56)) {
      return bad("it has too many elements");
    }
  }
  if (slice.flat_begin() < 0 || slice.flat_end() < slice.flat_begin() ||
      slice.flat_end() > BoxElements(slice)) {
    return bad("range [" + std::to_string(slice.flat_begin()) + ", " +
               std::to_string(slice.flat_end()) + ") leaves its box of " +
               std::to_string(BoxElements(slice)) + " elements");
  }
  return OkStatus();
}

std::string ShardFileName(int rank, int world_size) {
  char name[64];
  std::snprintf(name, sizeof name, "shard-%05d-of-%05d.bin", rank, world_size);
  return name;
}

uint64_t NumBlocks(uint64_t payload_bytes) {
  return (payload_bytes + kShardBlockBytes - 1) / kShardBlockBytes;
}

ByteRange BlockRange(uint64_t block, uint64_t payload_bytes) {
  const uint64_t begin = block * kShardBlockBytes;
  return {begin, std::min(begin + kShardBlockBytes, payload_bytes)};
}

uint32_t ShardRootCrc(const checkpoint::ShardInfo& info) {
  std::string bytes;
  bytes.reserve(static_cast<size_t>(info.block_crcs_size()) * 4);
  for (const uint32_t crc : info.block_crcs()) PutInt(crc, &bytes);
  for (const checkpoint::Slice& slice : info.slices()) bytes += slice.SerializeAsString();
  return Crc32c(bytes.data(), bytes.size());
}

std::string EncodeShardHeader(const checkpoint::ShardInfo& info) {
  std::string bytes(kHeaderMagic);
  PutInt(kShardVersion, &bytes);
  PutInt(static_cast<uint32_t>(info.rank()), &bytes);
  PutInt(static_cast<uint32_t>(info.world_size()), &bytes);
  PutInt(uint32_t{0}, &bytes);
  PutInt(info.epoch(), &bytes);
  PutInt(info.generation(), &bytes);
  PutInt(info.step(), &bytes);
  PutInt(info.attempt(), &bytes);
  bytes.resize(kHeaderCrcOffset, '\0');
  PutInt(Crc32c(bytes.data(), bytes.size()), &bytes);
  return bytes;
}

Status CheckShardHeader(std::string_view bytes, const checkpoint::ShardInfo& info) {
  if (bytes == EncodeShardHeader(info)) return OkStatus();
  const std::string where = FileLabel(info) + ": header (bytes 0 to 64): ";
  if (bytes.substr(0, kHeaderMagic.size()) != kHeaderMagic) {
    return Corruption(where + "it does not begin as a shard does");
  }
  return Corruption(where + "it does not belong to rank " + std::to_string(info.rank()) +
                    " of step " + std::to_string(info.step()) + ", E" +
                    std::to_string(info.epoch()) + ".G" + std::to_string(info.generation()) + ".A" +
                    std::to_string(info.attempt()));
}

std::string EncodeShardFooter(const checkpoint::ShardInfo& info) {
  const std::string footer = FooterPayload(info);
  std::string trailer;
  PutInt(static_cast<uint64_t>(footer.size()), &trailer);
  PutInt(info.payload_bytes(), &trailer);
  PutInt(kShardVersion, &trailer);
  const uint32_t footer_crc = Crc32c(footer.data(), footer.size());
  PutInt(Crc32c(trailer.data(), kTrailerCrcOffset, footer_crc), &trailer);
  trailer += kTrailerMagic;
  return footer + trailer;
}

Status CheckShardFooter(std::string_view bytes, const checkpoint::ShardInfo& info) {
  // The manifest holds the same ShardInfo, so the footer is right if it is byte for byte what that makes.
  if (bytes == EncodeShardFooter(info)) return OkStatus();
  const uint64_t begin = kShardHeaderBytes + info.payload_bytes();
  return Corruption(FileLabel(info) + ": footer (bytes " + std::to_string(begin) + " to " +
                    std::to_string(begin + bytes.size()) +
                    "): it is not what the manifest says of this shard");
}

}  // namespace weft
