#include "cluster/comm/tcp_handshake.h"

#include <algorithm>
#include <cstring>
#include <fstream>

namespace weft {
namespace {

constexpr uint32_t kHelloMagic = 0x48464557;   // "WEFH"
constexpr uint32_t kAnswerMagic = 0x41464557;  // "WEFA"
constexpr uint32_t kVersion = 2;

// Changes with each boot; equal for all containers of a host.
std::string BootId() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

// Takes the same time wherever the first difference is.
bool SameToken(const Hello& a, const Hello& b) {
  unsigned difference = 0;
  for (size_t i = 0; i < sizeof(a.token); ++i)
    difference |= static_cast<unsigned>(a.token[i] ^ b.token[i]);
  return difference == 0;
}

std::string Name(const Hello& hello) { return "rank " + std::to_string(hello.world_rank); }

std::string Generation(const Hello& hello) {
  return "(epoch " + std::to_string(hello.epoch) + ", generation " +
         std::to_string(hello.generation) + ")";
}

}  // namespace

StatusOr<Hello> MakeHello(const std::string& run_token, const std::string& group) {
  if (group.size() > kMaxGroup) {
    return InvalidArgument("the group \"" + group + "\" has more than " +
                           std::to_string(kMaxGroup) + " characters");
  }
  if (run_token.empty() || run_token.size() > kMaxRunToken) {
    return InvalidArgument("the run token has " + std::to_string(run_token.size()) +
                           " characters, not 1 to " + std::to_string(kMaxRunToken));
  }
  Hello hello;
  hello.magic = kHelloMagic;
  hello.version = kVersion;
  BootId().copy(hello.boot_id, sizeof(hello.boot_id) - 1);
  run_token.copy(hello.token, kMaxRunToken);
  group.copy(hello.group, kMaxGroup);
  return hello;
}

std::string GroupOf(const Hello& hello) {
  const std::string group(hello.group, strnlen(hello.group, sizeof(hello.group)));
  return group.empty() ? "the default group" : group;
}

bool SameGroup(const Hello& mine, const Hello& theirs) {
  return std::memcmp(mine.group, theirs.group, sizeof(mine.group)) == 0;
}

Status CheckSameRun(const Hello& mine, const Hello& theirs) {
  if (theirs.magic != kHelloMagic || theirs.version != kVersion) {
    return FailedPrecondition("not a rank of this build (unknown greeting)");
  }
  if (!SameToken(mine, theirs)) {
    return FailedPrecondition("wrong run token: this is not a rank of the same run");
  }
  if (mine.epoch != theirs.epoch || mine.generation != theirs.generation) {
    return FailedPrecondition(Name(theirs) + " is of " + Generation(theirs) + ", " + Name(mine) +
                              " of " + Generation(mine) + "; the older one must end");
  }
  return OkStatus();
}

Status CheckHello(const Hello& mine, const Hello& theirs) {
  WEFT_RETURN_IF_ERROR(CheckSameRun(mine, theirs));
  if (!SameGroup(mine, theirs)) {
    return FailedPrecondition(Name(theirs) + " connects for " + GroupOf(theirs) + ", " +
                              Name(mine) + " for " + GroupOf(mine) +
                              "; all ranks must have the same layout");
  }
  if (theirs.size != mine.size || theirs.rank < 0 || theirs.rank >= mine.size ||
      theirs.rank == mine.rank) {
    return FailedPrecondition("rank " + std::to_string(theirs.rank) + " of " +
                              std::to_string(theirs.size) + " does not belong to a world of " +
                              std::to_string(mine.size));
  }
  return OkStatus();
}

bool SameHost(const Hello& mine, const Hello& theirs) {
  return mine.shared_memory != 0 && theirs.shared_memory != 0 && mine.boot_id[0] != '\0' &&
         std::memcmp(mine.boot_id, theirs.boot_id, sizeof(mine.boot_id)) == 0;
}

Answer Accepted(const Hello& mine) { return {.magic = kAnswerMagic, .accepted = 1, .hello = mine}; }

Answer RefusedBecause(const Status& reason) {
  Answer answer{.magic = kAnswerMagic, .accepted = 0};
  reason.message().copy(answer.reason, sizeof(answer.reason) - 1);
  return answer;
}

Status CheckAnswer(const Hello& mine, const Answer& answer, int peer, const std::string& who) {
  if (answer.magic != kAnswerMagic)
    return FailedPrecondition(who + " answered with an unknown greeting");
  if (answer.accepted == 0) {
    return FailedPrecondition(
        who + " refused the connection: " +
        std::string(answer.reason, strnlen(answer.reason, sizeof(answer.reason))));
  }
  WEFT_RETURN_IF_ERROR(CheckHello(mine, answer.hello).WithContext(who));
  if (answer.hello.rank != peer) {
    return FailedPrecondition("the endpoint of " + who + " is answered by " + Name(answer.hello));
  }
  return OkStatus();
}

}  // namespace weft
