// Any bytes as LLaVA's record.
#include "cluster/base/logging.h"
#include "dataloader/conversation.h"
#include "tests/fuzz/fuzz_files.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto turns = weft::ParseConversation(weft::AsText(data, size));
  if (!turns.ok()) return 0;
  WEFT_CHECK(turns->size() >= 2);
  for (size_t i = 0; i < turns->size(); ++i) WEFT_CHECK((*turns)[i].human == (i % 2 == 0));
  return 0;
}
