// Tensors between stages, and what becomes of them when a step is given up.
#include "parallel/engine/stage_link.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/support/thread_world.h"

namespace weft {
namespace {

const std::vector<ActivationSpec> kSpecs = {{.name = "a", .dims = {3}},
                                            {.name = "b", .dims = {2}, .wide = true}};

TEST(StageLinkTest, TensorsArriveByName) {
  const Status status = testing::ThreadWorld(2, [](Communicator& pp) -> Status {
    ParallelContext context({.pp = &pp});
    StageLink link(&context);
    if (pp.rank() == 0) {
      link.Send(1, kSpecs,
                {{"a", at::full({4, 3}, 1.5)}, {"b", at::full({4, 2}, 2.5, at::kDouble)}},
                "activations");
      return link.Flush();
    }
    StageLink::Incoming incoming = link.Recv(0, kSpecs, 4, at::kFloat, at::kDouble, "activations");
    WEFT_ASSIGN_OR_RETURN(const NamedTensors tensors, incoming.Take());
    EXPECT_EQ(tensors.at("a").sum().item<double>(), 18);
    EXPECT_EQ(tensors.at("b").sum().item<double>(), 20);
    return OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
}

// A receive writes into its tensor until it ends: giving it up ends it first, for the peer too.
TEST(StageLinkTest, AReceiveThatIsGivenUpEndsTheStepForItsPeer) {
  const Status status = testing::ThreadWorld(2, [](Communicator& pp) -> Status {
    ParallelContext context({.pp = &pp});
    StageLink link(&context);
    if (pp.rank() == 0) {
      { const auto given_up = link.Recv(1, kSpecs, 4, at::kFloat, at::kDouble, "activations"); }
      EXPECT_FALSE(pp.failure().ok());
      return OkStatus();
    }
    StageLink::Incoming incoming = link.Recv(0, kSpecs, 4, at::kFloat, at::kDouble, "gradients");
    const auto tensors = incoming.Take();
    EXPECT_FALSE(tensors.ok());
    EXPECT_NE(tensors.status().message().find("given up during activations"), std::string::npos)
        << tensors.status();
    return OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace weft
