#include "cluster/base/hash.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace weft {
namespace {

TEST(Fnv1a64, KnownAnswers) {
  EXPECT_EQ(Fnv1a64(""), 0xcbf29ce484222325ULL);
  EXPECT_EQ(Fnv1a64("abc"), 0xe71fa2190541574bULL);
  EXPECT_EQ(Fnv1a64("foobar"), 0x85944171f73967e8ULL);
  // Bytes above 127 are not sign-extended.
  EXPECT_EQ(Fnv1a64("\xff"), (0xcbf29ce484222325ULL ^ 0xff) * 0x100000001b3ULL);
}

TEST(Mix64, IsSplitmix64) {
  // The first outputs of splitmix64 seeded with 0: its state moves by the golden ratio.
  EXPECT_EQ(Mix64(0x9E3779B97F4A7C15ULL), 0xE220A8397B1DCDAFULL);
  EXPECT_EQ(Mix64(2 * 0x9E3779B97F4A7C15ULL), 0x6E789E6AA1B965F4ULL);
}

TEST(HashCombine, DependsOnOrderAndOnEachValue) {
  std::set<uint64_t> seen;
  for (uint64_t a = 0; a < 20; ++a) {
    for (uint64_t b = 0; b < 20; ++b) seen.insert(HashCombine(HashCombine(0, a), b));
  }
  EXPECT_EQ(seen.size(), 400u);
}

TEST(Sha256Hex, KnownAnswers) {
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256Hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(Crc32c, KnownAnswers) {
  EXPECT_EQ(Crc32c("123456789", 9), 0xe3069283u);
  EXPECT_EQ(Crc32c("", 0), 0u);
  // RFC 3720, B.4.
  EXPECT_EQ(Crc32c(std::string(32, '\0').data(), 32), 0x8a9136aau);
  EXPECT_EQ(Crc32c(std::string(32, '\xff').data(), 32), 0x62a8ab43u);
}

TEST(Crc32c, ContinuesAtAnyCut) {
  const std::string text = "a checksum of parts is the checksum of the whole";
  const uint32_t whole = Crc32c(text.data(), text.size());
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    const uint32_t head = Crc32c(text.data(), cut);
    EXPECT_EQ(Crc32c(text.data() + cut, text.size() - cut, head), whole) << "cut at " << cut;
  }
}

TEST(Crc32c, InstructionAndTableAgree) {
  std::string bytes;
  for (uint64_t i = 0; i < 300; ++i) bytes += static_cast<char>(Mix64(i));
  for (size_t begin = 0; begin < 9; ++begin) {
    for (size_t size = 0; size + begin <= bytes.size(); size += 7) {
      const char* data = bytes.data() + begin;
      EXPECT_EQ(Crc32c(data, size, 7), hash_internal::Crc32cByTable(data, size, 7));
    }
  }
}

}  // namespace
}  // namespace weft
