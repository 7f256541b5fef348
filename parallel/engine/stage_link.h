// Tensors to and from the neighbouring stages. Sends do not wait: what is under way is kept alive here. A receive is posted
// when the schedule says so and waited for when the tensors are used.
//
// Errors: those of the communicator. Thread rule: one thread.
#pragma once

#include <ATen/core/Tensor.h>

#include <deque>
#include <string>
#include <vector>

#include "cluster/base/status.h"
#include "models/spec/model_spec.h"
#include "parallel/context.h"
#include "parallel/engine/block.h"

namespace weft {

class StageLink {
 public:
  explicit StageLink(ParallelContext* context) : context_(context) {}
  ~StageLink();
  StageLink(const StageLink&) = delete;
  StageLink& operator=(const StageLink&) = delete;

  // Tensors that were received, or are being.
  class Incoming {
   public:
    Incoming() = default;
    ~Incoming() { Clear(); }
    Incoming(Incoming&& other) = default;
    Incoming& operator=(Incoming&& other);
    // Waits for all of them.
    StatusOr<NamedTensors> Take();

   private:
    friend class StageLink;
    void Clear();
    ParallelContext* context_ = nullptr;
    NamedTensors tensors_;
    std::vector<WorkPtr> works_;
  };

  // The tensors of these names, in their order.
  void Send(int peer, const std::vector<ActivationSpec>& specs, const NamedTensors& tensors,
            const std::string& name);
  // Activations of a micro-batch of `samples`; types by the precision.
  Incoming Recv(int peer, const std::vector<ActivationSpec>& specs, int64_t samples,
                at::ScalarType compute_type, at::ScalarType wide_type, const std::string& name);
  // Handed over on this rank.
  static Incoming Local(NamedTensors tensors);
  // Waits for everything that is under way.
  Status Flush();

 private:
  struct Outgoing {
    at::Tensor tensor;
    WorkPtr work;
  };

  ParallelContext* context_;
  std::deque<Outgoing> outgoing_;
};

}  // namespace weft
