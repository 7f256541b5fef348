// Runs lists of actions on numbers, to see whether two sets of lists compute the same. Knows nothing of the verifier. A
// value is a hash of everything that it was made from in that order, so sums in another order are another result. Messages
// carry a value and no name, as on a wire; ranks go on in random turns.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <span>
#include <tuple>
#include <vector>

#include "parallel/schedule/program.h"

namespace weft {

class ReferenceMachine {
 public:
  using Value = uint64_t;

  ReferenceMachine(const ProgramSpec& spec, std::span<const RankProgram> programs, unsigned seed);

  // What all stages have after the step; nothing if a rank waits for ever, or uses or leaves what it must not.
  std::optional<Value> Run();

 private:
  // Phase, stage, micro-batch.
  using Key = std::tuple<int, int, int>;
  struct Stage {
    Value main_grad = 0;
    // Pushed slots, by phase; what was reduced of them.
    std::map<int, std::vector<Value>> slots;
    Value reduced = 0;
    bool gathered = false;
  };

  static Value Mix(Value a, Value b);
  int ForwardPhase(int phase) const;
  // False: the action has to wait. Clears ok_ if it can never be right.
  bool Execute(int rank, const Action& action);
  void Forward(const Action& action);
  void Backward(const Action& action, bool input, bool weight);
  bool Receive(int rank, const Action& action);
  bool Tie(int rank, const Action& action);
  void Reduce(const Action& action);
  // Reads a value that has to be there.
  Value Take(const std::map<Key, Value>& from, Key key);

  const ProgramSpec& spec_;
  std::span<const RankProgram> programs_;
  std::mt19937 random_;
  bool ok_ = true;
  std::vector<size_t> next_;
  std::vector<Stage> stages_;
  std::map<std::pair<int, int>, std::deque<Value>> lanes_;
  std::map<Key, Value> inputs_;
  std::map<Key, Value> outputs_;
  // Kept for the backward, until the weight gradients are done.
  std::map<Key, Value> saved_;
  std::map<Key, Value> output_grads_;
  std::map<Key, Value> input_grads_;
  std::vector<std::vector<bool>> tie_arrivals_;
  Value joined_ = 1;
};

}  // namespace weft
