#include "cli/loader_flags.h"

namespace weft {

void LoaderFlags::AddTo(FlagParser* flags) {
  flags->String("loader", &place,
                "where samples are read and decoded: 'threads' of each worker, or a 'process' of "
                "this machine");
  flags->Int("loader-bytes", &bytes, "micro-batches that the loader process holds at most, bytes");
}

Status LoaderFlags::Apply(AgentOptions* agent) const {
  if (place == "threads") {
    agent->loader_bytes = 0;
    return OkStatus();
  }
  if (place != "process")
    return InvalidArgument("--loader '" + place + "': it is 'threads' or 'process'");
  if (bytes < 1 << 20) return InvalidArgument("--loader-bytes must be at least 1048576");
  agent->loader_bytes = bytes;
  return OkStatus();
}

}  // namespace weft
