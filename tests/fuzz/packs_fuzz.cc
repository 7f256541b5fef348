// Any bytes as what follows the head of a table of packs; numbers and checksum of the head are made to fit.
#include <cstring>
#include <vector>

#include "cluster/base/hash.h"
#include "cluster/base/logging.h"
#include "dataloader/conversation_packs.h"
#include "tests/fuzz/fuzz_files.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  // The first byte: packs.
  weft::PackHead head = {};
  head.packs = data[0];
  const size_t bytes = size - 1;
  const size_t packs_bytes = head.packs * sizeof(weft::ConversationPack);
  head.items = bytes < packs_bytes ? 0 : (bytes - packs_bytes) / sizeof(weft::PackMember);
  std::vector<uint64_t> aligned(bytes / 8 + 1);
  std::memcpy(aligned.data(), data + 1, bytes);
  const std::string_view payload(reinterpret_cast<const char*>(aligned.data()), bytes);
  head.payload_crc = weft::Crc32c(payload.data(), payload.size());
  const auto table = weft::PackTable::Parse(head, payload, {100, 64, 3});
  if (!table.ok()) return 0;
  uint64_t members = 0;
  for (const weft::ConversationPack& pack : table->packs) {
    uint64_t tokens = 0;
    for (const weft::PackMember& member : table->MembersOf(pack)) {
      WEFT_CHECK(member.sample < 100);
      tokens += member.tokens;
    }
    WEFT_CHECK(tokens == pack.tokens && tokens <= 64);
    members += pack.members;
  }
  WEFT_CHECK(members == table->members.size());
  return 0;
}
