// Tables of packed conversations whose bytes are not what was written.
#include <gtest/gtest.h>

#include <cstring>
#include <string_view>
#include <vector>

#include "cluster/base/hash.h"
#include "tests/dataloader/packed_conversations.h"

namespace weft {
namespace {

TEST_F(ConversationPacksTest, DamagedTablesAreMadeAgain) {
  samples_.resize(30);
  Write();
  const std::string fingerprint = Fingerprint();
  const std::string path = PackFiles()[0];
  const std::string whole = ReadBytes(path);
  const auto expect_made_again = [&](const std::string& damaged, size_t at) {
    WriteBytes(path, damaged);
    ASSERT_EQ(Fingerprint(), fingerprint) << at;
    ASSERT_EQ(ReadBytes(path), whole) << at;
  };
  const auto flipped = [&whole](size_t at) {
    std::string bytes = whole;
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << at % 8));
    return bytes;
  };
  for (size_t at = 0; at < whole.size(); at += 43) {
    expect_made_again(whole.substr(0, at), at);
    expect_made_again(flipped(at), at);
  }
  // Every length and every byte, without a file.
  const PackFileKind kind = {"WEFTCONV", 1, sizeof(ConversationPack), sizeof(PackMember)};
  const auto read = [&](const std::string& bytes) -> Status {
    PackHead head = {};
    if (bytes.size() < sizeof head) return NotFound("short");
    std::memcpy(&head, bytes.data(), sizeof head);
    PackHead good = {};
    std::memcpy(&good, whole.data(), sizeof good);
    WEFT_RETURN_IF_ERROR(CheckPackHead(head, bytes.size(), kind, path,
                                       std::string(good.key, PackHead::kHex), good.shard,
                                       [] { return std::string(); }));
    std::vector<uint64_t> aligned((bytes.size() - sizeof head + 7) / 8);
    std::memcpy(aligned.data(), bytes.data() + sizeof head, bytes.size() - sizeof head);
    const std::string_view payload(reinterpret_cast<const char*>(aligned.data()),
                                   bytes.size() - sizeof head);
    return PackTable::Parse(head, payload, {30, kRow, kPictures}).status();
  };
  ASSERT_TRUE(read(whole).ok()) << read(whole);
  for (size_t at = 0; at < whole.size(); ++at) {
    EXPECT_FALSE(read(whole.substr(0, at)).ok()) << at;
    EXPECT_FALSE(read(flipped(at)).ok()) << at;
  }
}

// Sums that fit, contents that do not.
TEST_F(ConversationPacksTest, ParsingRefusesWhatLiesOutside) {
  const auto parse = [](std::vector<ConversationPack> packs, std::vector<PackMember> members) {
    std::vector<uint64_t> aligned(packs.size() * 4 + members.size());
    auto* bytes = reinterpret_cast<char*>(aligned.data());
    std::memcpy(bytes, packs.data(), packs.size() * sizeof packs[0]);
    std::memcpy(bytes + packs.size() * sizeof packs[0], members.data(), members.size() * 8);
    PackHead head = {};
    head.packs = packs.size();
    head.items = members.size();
    head.payload_crc = Crc32c(bytes, aligned.size() * 8);
    return PackTable::Parse(head, {bytes, aligned.size() * 8}, {10, 20, 2}).status();
  };
  const ConversationPack good = {0, 9 + 16, 7, 2, 1, 0};
  const std::vector<PackMember> members = {{2, 3}, {9, 4}};
  EXPECT_TRUE(parse({good}, members).ok());
  EXPECT_TRUE(parse({}, {}).ok());
  const auto expect_refused = [&](const auto& change) {
    ConversationPack pack = good;
    std::vector<PackMember> of = members;
    change(pack, of);
    EXPECT_EQ(parse({pack}, of).code(), StatusCode::kCorruption);
  };
  using Members = std::vector<PackMember>;
  expect_refused([](ConversationPack& pack, Members&) { pack.first_member = 1; });
  expect_refused([](ConversationPack& pack, Members&) { pack.first_member = ~uint64_t{0}; });
  expect_refused([](ConversationPack& pack, Members&) { pack.members = 3; });
  expect_refused([](ConversationPack& pack, Members&) { pack.members = 1; });
  expect_refused([](ConversationPack& pack, Members&) { pack.members = 0; });
  expect_refused([](ConversationPack& pack, Members&) { pack.tokens = 8; });
  expect_refused([](ConversationPack& pack, Members&) { pack.squares = 8; });
  expect_refused([](ConversationPack& pack, Members&) { pack.pictures = 3; });
  expect_refused([](ConversationPack&, Members& of) { of[1].sample = 10; });
  expect_refused([](ConversationPack&, Members& of) { of[1].sample = 2; });
  expect_refused([](ConversationPack&, Members& of) { of[0].tokens = 0; });
  expect_refused([](ConversationPack& pack, Members& of) {
    of[0].tokens = 17;
    pack.tokens = 21;
    pack.squares = 17 * 17 + 16;
  });
}

}  // namespace
}  // namespace weft
