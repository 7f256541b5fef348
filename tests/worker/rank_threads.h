// The ranks of a layout as threads, each with its RankState; for tests of what passes between layouts.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "cluster/comm/mesh_communicators.h"
#include "cluster/topology/mesh.h"
#include "models/spec/model_spec.h"
#include "tests/support/checkpoint_world.h"
#include "worker/rank_state.h"

namespace weft::testing {

// Runs `body` on each rank; expects that all of them succeed.
inline void OnAllRanks(const Recipe& recipe, const std::function<Status(int, RankState*)>& body) {
  auto mesh = MakeInProcessMesh(
      {.pp = recipe.layout().pp(), .dp = recipe.layout().dp(), .tp = recipe.layout().tp()});
  ASSERT_TRUE(mesh.ok()) << mesh.status();
  const auto run = [&](int rank) -> Status {
    const MeshCommunicators& own = (*mesh)[static_cast<size_t>(rank)];
    WEFT_ASSIGN_OR_RETURN(ModelSpec spec, MakeModelSpec(recipe));
    WEFT_RETURN_IF_ERROR(
        ApplyTrainable({recipe.trainable().begin(), recipe.trainable().end()}, &spec));
    WEFT_ASSIGN_OR_RETURN(
        const std::unique_ptr<RankState> state,
        RankState::Create(recipe, std::move(spec), {own.dp.get(), own.tp.get(), own.pp.get()}));
    return body(rank, state.get());
  };
  std::vector<Status> results(mesh->size());
  std::vector<std::thread> threads;
  for (size_t r = 0; r < mesh->size(); ++r) {
    threads.emplace_back([&, r] {
      results[r] = run(static_cast<int>(r));
      if (!results[r].ok()) (*mesh)[r].Abort(results[r]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t r = 0; r < results.size(); ++r)
    EXPECT_TRUE(results[r].ok()) << "rank " << r << ": " << results[r];
}

// What a checkpoint of such a run says besides tensors.
inline checkpoint::TrainState StateOf(const Recipe& recipe, int64_t step) {
  checkpoint::TrainState state = TinyState(step);
  ModelSpec spec = *MakeModelSpec(recipe);
  EXPECT_TRUE(ApplyTrainable({recipe.trainable().begin(), recipe.trainable().end()}, &spec).ok());
  for (const ParamSpec& param : spec.Params()) {
    if (!param.trainable && param.tie.empty()) state.add_frozen(param.name);
  }
  return state;
}

}  // namespace weft::testing
