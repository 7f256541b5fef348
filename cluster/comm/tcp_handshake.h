// The first words on a data-plane connection. The rank with the higher number connects and sends a
// Hello; the other one answers with its own, or with a refusal that says why: another run's token,
// another generation, a group or a rank that is not expected. Each side then says in one byte
// whether it could map the other's shared memory.
//
// Little-endian, fixed size: both ends are the same build.
// Thread rule: values and free functions.
#pragma once

#include <cstdint>
#include <string>

#include "cluster/base/status.h"

namespace weft {

constexpr size_t kMaxRunToken = 127;
constexpr size_t kMaxGroup = 31;

struct Hello {
  uint32_t magic = 0;
  uint32_t version = 0;
  int32_t rank = -1;
  int32_t size = 0;
  // What a person calls this rank.
  int32_t world_rank = -1;
  uint32_t shared_memory = 0;
  uint64_t epoch = 0;
  uint64_t generation = 0;
  // Where the shared memory and the doorbell are, for ranks of the same host.
  uint64_t segment_nonce = 0;
  int64_t pid = 0;
  int32_t segment_fd = -1;
  int32_t ring_fd = -1;
  uint64_t ring_bytes = 0;
  char group[kMaxGroup + 1] = {};
  char boot_id[40] = {};
  char token[kMaxRunToken + 1] = {};
};

struct Answer {
  uint32_t magic = 0;
  uint32_t accepted = 0;
  char reason[240] = {};
  // Of the rank that answers; empty in a refusal.
  Hello hello;
};

// Fills magic, version and boot id. InvalidArgument if the token is empty, or it or the group is
// too long.
StatusOr<Hello> MakeHello(const std::string& run_token, const std::string& group);

// "dp.2"; "the default group".
std::string GroupOf(const Hello& hello);
bool SameGroup(const Hello& mine, const Hello& theirs);
// Whether `theirs` belongs to the same run and generation as `mine`; FailedPrecondition says what
// differs.
Status CheckSameRun(const Hello& mine, const Hello& theirs);
// The same, and to the same group and world.
Status CheckHello(const Hello& mine, const Hello& theirs);
// Both allow it and run under the same kernel.
bool SameHost(const Hello& mine, const Hello& theirs);

Answer Accepted(const Hello& mine);
Answer RefusedBecause(const Status& reason);
// The refusal as a Status, or OK. `peer` should have answered, and is `who` to a person.
Status CheckAnswer(const Hello& mine, const Answer& answer, int peer, const std::string& who);

}  // namespace weft
