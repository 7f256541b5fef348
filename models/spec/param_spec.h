// What is known of a parameter before any tensor exists. Init, slices, norms, clipping, the optimizer, checkpoints,
// goldens and names in other frameworks all read this and nothing else. Torch-free.
//
// Thread rule: values.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace weft {

enum class InitKind { kConstant, kNormal, kUniform };

// How an element starts: `value` everywhere, normal with mean 0 and standard deviation `value`, or uniform in
// [-value, value].
struct Init {
  InitKind kind = InitKind::kConstant;
  double value = 0;

  static Init Constant(double value) { return {InitKind::kConstant, value}; }
  static Init Normal(double std) { return {InitKind::kNormal, std}; }
  static Init Uniform(double bound) { return {InitKind::kUniform, bound}; }
  // Glorot and Bengio 2010: uniform with the variance 2 / (fan_in + fan_out).
  static Init XavierUniform(int64_t fan_in, int64_t fan_out) {
    return Uniform(std::sqrt(6.0 / static_cast<double>(fan_in + fan_out)));
  }
  // What PyTorch's Linear and Conv start with (He et al. 2015 with a = sqrt 5), weights and biases alike.
  static Init FanInUniform(int64_t fan_in) {
    return Uniform(1.0 / std::sqrt(static_cast<double>(fan_in)));
  }
};

struct ClampRange {
  double min = 0;
  double max = 0;
};

struct ParamSpec {
  // The name in the reference's state dict: checkpoints, goldens and importers use it.
  std::string name;
  // Global and unpadded.
  std::vector<int64_t> shape;
  Init init;
  // Member of the group with weight decay.
  bool decay = true;
  bool trainable = true;
  // Stays in fp32 where the others are bf16: norms, logit_scale.
  bool keep_fp32 = false;
  // Dimension that tensor parallelism splits; -1: replicated.
  int tp_dim = -1;
  // tp_dim is so many equal sections, each split by itself: 3 for fused q | k | v. REQUIRES tp_dim 0 if more than 1.
  int tp_sections = 1;
  // Parts of a section that cannot be split further: heads. 0: elements, split as evenly as they go. Fewer units than
  // ranks: each unit lies on tp / units neighbouring ranks, and its gradient is summed over them.
  int64_t tp_units = 0;
  // Under sequence parallelism a rank's gradient is of its own rows only and is summed over tp: norms, biases of
  // row-parallel layers.
  bool sequence_partial = false;
  // A tp rank computes it from its own images only (an encoder dealt over tp): the gradient is summed over tp.
  bool dealt = false;
  // Not empty: a replica of that parameter with values and a gradient of its own. After the exchange the owner adds the
  // replica's gradient, and the owner's new values go back. Init, norm, counts, optimizer state and checkpoints know the
  // owner only.
  std::string tie;
  // Block or join that owns it.
  std::string owner;
  // The optimizer clamps the value to this range after each step.
  std::optional<ClampRange> clamp;
  // Row of padding: it starts at 0, and a lookup gives it no gradient. -1: there is none.
  int64_t padding_row = -1;

  // Whose init and whose name in a checkpoint it has.
  const std::string& source() const { return tie.empty() ? name : tie; }

  int64_t NumElements() const {
    int64_t n = 1;
    for (const int64_t dim : shape) n *= dim;
    return n;
  }
};

}  // namespace weft
