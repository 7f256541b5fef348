#include "cluster/topology/mesh.h"

#include <algorithm>
#include <string>

#include "cluster/base/logging.h"
#include "cluster/config/recipe.pb.h"

namespace weft {
namespace {

Status CheckPositive(const char* field, int value) {
  if (value >= 1) return OkStatus();
  return InvalidArgument(std::string(field) + " is " + std::to_string(value) +
                         ", but must be at least 1; use 1");
}

}  // namespace

const char* AxisName(Axis axis) {
  switch (axis) {
    case Axis::kPipeline:
      return "pp";
    case Axis::kData:
      return "dp";
    case Axis::kTensor:
      return "tp";
  }
  return "unknown";
}

int ParallelDims::Degree(Axis axis) const {
  return axis == Axis::kPipeline ? pp : axis == Axis::kData ? dp : tp;
}

int Coordinate::Index(Axis axis) const {
  return axis == Axis::kPipeline ? pp : axis == Axis::kData ? dp : tp;
}

StatusOr<ParallelDims> MakeParallelDims(const Recipe& recipe) {
  const Layout& layout = recipe.layout();
  const int slots = recipe.batch().slots();
  WEFT_RETURN_IF_ERROR(CheckPositive("layout.pp", layout.pp()));
  WEFT_RETURN_IF_ERROR(CheckPositive("layout.dp", layout.dp()));
  WEFT_RETURN_IF_ERROR(CheckPositive("layout.tp", layout.tp()));
  WEFT_RETURN_IF_ERROR(CheckPositive("batch.slots", slots));
  if (layout.dp() > slots) {
    return InvalidArgument(
        "layout.dp is " + std::to_string(layout.dp()) +
        ", but a step has only batch.slots = " + std::to_string(slots) +
        " slots, and each rank needs one; use layout.dp <= " + std::to_string(slots) +
        " (slots are part of the recipe: more of them change the batch)");
  }
  return ParallelDims{.pp = layout.pp(), .dp = layout.dp(), .tp = layout.tp()};
}

Status CheckLayout(const Recipe& recipe) { return MakeParallelDims(recipe).status(); }

SlotRange SlotsOfRank(int slots, int dp, int dp_rank) {
  WEFT_CHECK(dp >= 1 && dp <= slots) << "dp " << dp << ", slots " << slots;
  WEFT_CHECK(dp_rank >= 0 && dp_rank < dp) << "dp rank " << dp_rank << " of " << dp;
  const int base = slots / dp;
  const int larger = slots % dp;
  return {.first = dp_rank * base + std::min(dp_rank, larger),
          .count = base + (dp_rank < larger ? 1 : 0)};
}

int RankOfSlot(int slots, int dp, int slot) {
  WEFT_CHECK(slot >= 0 && slot < slots) << "slot " << slot << " of " << slots;
  const int base = slots / dp;
  const int larger = slots % dp;
  const int in_larger = larger * (base + 1);  // slots of the ranks that have one more
  return slot < in_larger ? slot / (base + 1) : larger + (slot - in_larger) / base;
}

Mesh::Mesh(const ParallelDims& dims) : dims_(dims) {
  WEFT_CHECK(dims.pp >= 1 && dims.dp >= 1 && dims.tp >= 1)
      << "pp " << dims.pp << ", dp " << dims.dp << ", tp " << dims.tp;
}

Coordinate Mesh::CoordinateOf(int rank) const {
  WEFT_CHECK(rank >= 0 && rank < world_size()) << "rank " << rank << " of " << world_size();
  return {
      .pp = rank / (dims_.dp * dims_.tp), .dp = rank / dims_.tp % dims_.dp, .tp = rank % dims_.tp};
}

int Mesh::RankOf(const Coordinate& c) const {
  WEFT_CHECK(c.pp >= 0 && c.pp < dims_.pp && c.dp >= 0 && c.dp < dims_.dp && c.tp >= 0 &&
             c.tp < dims_.tp)
      << "(" << c.pp << ", " << c.dp << ", " << c.tp << ") outside of the mesh";
  return (c.pp * dims_.dp + c.dp) * dims_.tp + c.tp;
}

std::vector<int> Mesh::Group(Axis axis, int rank) const {
  Coordinate c = CoordinateOf(rank);
  int& index = axis == Axis::kPipeline ? c.pp : axis == Axis::kData ? c.dp : c.tp;
  std::vector<int> ranks;
  for (index = 0; index < dims_.Degree(axis); ++index) ranks.push_back(RankOf(c));
  return ranks;
}

}  // namespace weft
