#include "parallel/schedule/dp_verifier.h"

#include <algorithm>
#include <string>

#include "cluster/base/logging.h"
#include "parallel/schedule/action_text.h"

namespace weft {
namespace {

size_t Size(int n) { return static_cast<size_t>(n); }
std::string Number(int n) { return std::to_string(n); }

bool IsCollective(const Action& action) {
  return action.kind == ActionKind::kJoin || action.kind == ActionKind::kReduce ||
         action.kind == ActionKind::kGather;
}

bool IsSend(const Action& action) {
  return action.kind == ActionKind::kSendForward || action.kind == ActionKind::kSendBackward;
}

bool IsReceive(const Action& action) {
  return action.kind == ActionKind::kRecvForward || action.kind == ActionKind::kRecvBackward;
}

// Places of the collectives in a list.
std::vector<size_t> Collectives(const RankProgram& program) {
  std::vector<size_t> places;
  for (size_t i = 0; i < program.size(); ++i) {
    if (IsCollective(program[i])) places.push_back(i);
  }
  return places;
}

std::string Place(const RankProgram& program, const std::vector<size_t>& places, size_t i) {
  if (i >= places.size()) return "no more";
  return "action " + std::to_string(places[i]) + " (" + ActionText(program[places[i]]) + ")";
}

// Compares one pipeline rank's collectives with those of dp rank 0.
Status CheckSameCollectives(int rank, int dp_rank, const RankProgram& first,
                            const RankProgram& other) {
  const std::vector<size_t> a = Collectives(first);
  const std::vector<size_t> b = Collectives(other);
  for (size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
    if (i < a.size() && i < b.size() && first[a[i]] == other[b[i]]) continue;
    return InvalidArgument("pipeline rank " + Number(rank) + ": collective " + std::to_string(i) +
                           " over dp is " + Place(first, a, i) + " on dp rank 0, but " +
                           Place(other, b, i) + " on dp rank " + Number(dp_rank));
  }
  return OkStatus();
}

// All lists at once: who waits, and whom an arrival frees. VerifyProgram has matched the messages, so counts are enough.
class World {
 public:
  World(const ProgramSpec& spec, std::span<const std::vector<RankProgram>> programs)
      : spec_(spec),
        programs_(programs),
        next_(programs.size() * Size(spec.ranks)),
        waits_(next_.size()),
        arrived_(Size(spec.ranks)),
        lanes_(next_.size() * Size(spec.ranks)) {}

  Status Run() {
    for (size_t w = next_.size(); w > 0; --w) ready_.push_back(w - 1);
    while (!ready_.empty()) {
      const size_t w = ready_.back();
      ready_.pop_back();
      const RankProgram& list = List(w);
      waits_[w] = false;
      while (next_[w] < list.size() && Execute(w, list[next_[w]])) ++next_[w];
      waits_[w] = next_[w] < list.size();
    }
    for (size_t w = 0; w < next_.size(); ++w) {
      if (!waits_[w] || !IsCollective(List(w)[next_[w]])) continue;
      return InvalidArgument(
          "dp rank " + std::to_string(w / Size(spec_.ranks)) + ", pipeline rank " +
          std::to_string(w % Size(spec_.ranks)) + ", action " + std::to_string(next_[w]) + " (" +
          ActionText(List(w)[next_[w]]) + "): waits for ever for the other dp ranks, of which " +
          WhoIsMissing(w));
    }
    return OkStatus();
  }

 private:
  // A rank of the world is dp_rank * p + pipeline rank.
  const RankProgram& List(size_t w) const {
    return programs_[w / Size(spec_.ranks)][w % Size(spec_.ranks)];
  }

  // False: it has to wait.
  bool Execute(size_t w, const Action& action) {
    const size_t p = Size(spec_.ranks);
    if (IsSend(action)) {
      const size_t to = w / p * p + Size(action.peer);
      ++lanes_[to * p + w % p];
      Wake(to);
    } else if (IsReceive(action)) {
      int& waiting = lanes_[w * p + Size(action.peer)];
      if (waiting == 0) return false;
      --waiting;
    } else if (IsCollective(action)) {
      return Arrive(w);
    }
    return true;
  }

  // The last rank that comes to a collective frees the others.
  bool Arrive(size_t w) {
    const size_t p = Size(spec_.ranks);
    std::vector<size_t>& here = arrived_[w % p];
    if (std::find(here.begin(), here.end(), w) == here.end()) here.push_back(w);
    if (here.size() < programs_.size()) return false;
    for (const size_t other : here) {
      if (other == w) continue;
      ++next_[other];
      Wake(other);
    }
    here.clear();
    return true;
  }

  void Wake(size_t w) {
    if (!waits_[w]) return;
    waits_[w] = false;
    ready_.push_back(w);
  }

  std::string WhoIsMissing(size_t w) const {
    const size_t p = Size(spec_.ranks);
    const std::vector<size_t>& here = arrived_[w % p];
    for (size_t other = w % p; other < next_.size(); other += p) {
      if (std::find(here.begin(), here.end(), other) != here.end()) continue;
      const std::string name = "dp rank " + std::to_string(other / p);
      if (next_[other] == List(other).size()) return name + " comes to its end without it";
      return name + " waits at action " + std::to_string(next_[other]) + " (" +
             ActionText(List(other)[next_[other]]) + ")";
    }
    return "all are here";
  }

  const ProgramSpec& spec_;
  std::span<const std::vector<RankProgram>> programs_;
  std::vector<size_t> next_;
  std::vector<bool> waits_;
  // By pipeline rank: who has come to its next collective.
  std::vector<std::vector<size_t>> arrived_;
  // Messages on their way, by receiver in the world, sender in its pipeline.
  std::vector<int> lanes_;
  std::vector<size_t> ready_;
};

}  // namespace

Status VerifyAcrossDp(const ProgramSpec& spec, std::span<const std::vector<RankProgram>> programs) {
  if (programs.size() != Size(spec.dp))
    return InvalidArgument("there are lists of " + std::to_string(programs.size()) +
                           " dp ranks, but layout.dp: " + Number(spec.dp));
  for (const std::vector<RankProgram>& lists : programs)
    WEFT_CHECK_EQ(lists.size(), Size(spec.ranks)) << "lists of a dp rank";
  for (int rank = 0; rank < spec.ranks; ++rank) {
    for (int dp_rank = 1; dp_rank < spec.dp; ++dp_rank) {
      WEFT_RETURN_IF_ERROR(CheckSameCollectives(rank, dp_rank, programs[0][Size(rank)],
                                                programs[Size(dp_rank)][Size(rank)]));
    }
  }
  return World(spec, programs).Run();
}

}  // namespace weft
