#include "models/spec/tp_slice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

namespace weft {
namespace {

using ::testing::ElementsAre;

ParamSpec Split(std::vector<int64_t> shape, int dim, int sections, int64_t units) {
  ParamSpec param;
  param.name = "p";
  param.shape = std::move(shape);
  param.tp_dim = dim;
  param.tp_sections = sections;
  param.tp_units = units;
  return param;
}

// How often each element of the tensor lies in one of the boxes.
void Count(const ParamSpec& param, const TensorBox& box, std::vector<int>* count) {
  std::vector<int64_t> index(param.shape.size(), 0);
  for (int64_t i = 0; i < box.NumElements(); ++i) {
    int64_t flat = 0;
    for (size_t d = 0; d < index.size(); ++d)
      flat = flat * param.shape[d] + box.offsets[d] + index[d];
    ++(*count)[static_cast<size_t>(flat)];
    for (size_t d = index.size(); d-- > 0;) {
      if (++index[d] < box.lengths[d]) break;
      index[d] = 0;
    }
  }
}

void ExpectTiles(const ParamSpec& param, int tp) {
  std::vector<int> count(static_cast<size_t>(param.NumElements()), 0);
  const int replicas = TpReplicas(param, tp);
  ASSERT_EQ(tp % replicas, 0);
  for (int rank = 0; rank < tp; ++rank) {
    const std::vector<TensorBox> boxes = TpBoxes(param, tp, rank);
    int64_t elements = 0;
    for (const TensorBox& box : boxes) elements += box.NumElements();
    int64_t local = 1;
    for (const int64_t dim : LocalShape(param, tp, rank)) local *= dim;
    EXPECT_EQ(local, elements);
    // Neighbours hold the same, others nothing of it.
    EXPECT_EQ(boxes, TpBoxes(param, tp, rank / replicas * replicas));
    if (rank % replicas != 0) continue;
    for (const TensorBox& box : boxes) Count(param, box, &count);
  }
  EXPECT_EQ(std::set<int>(count.begin(), count.end()), std::set<int>{1})
      << "tp " << tp << ", dim " << param.tp_dim << ", sections " << param.tp_sections << ", units "
      << param.tp_units;
}

TEST(TpSliceTest, DistinctSlicesTileTheTensorOnce) {
  std::mt19937 random(1);
  const auto draw = [&](int min, int max) {
    return min + static_cast<int>(random() % static_cast<unsigned>(max - min + 1));
  };
  int split = 0;
  for (int i = 0; i < 2000; ++i) {
    std::vector<int64_t> shape;
    for (int d = draw(1, 3); d > 0; --d) shape.push_back(draw(1, 9));
    const int dim = draw(-1, static_cast<int>(shape.size()) - 1);
    const int sections = dim == 0 ? draw(1, 3) : 1;
    const int64_t units = draw(0, 8);
    if (dim >= 0) {
      int64_t& extent = shape[static_cast<size_t>(dim)];
      if (units > 0) extent *= units;
      extent *= sections;
    }
    const ParamSpec param = Split(shape, dim, sections, units);
    for (int tp = 1; tp <= 8; ++tp) {
      if (!CheckTpSplit(param, tp).ok()) continue;
      ++split;
      ExpectTiles(param, tp);
    }
  }
  EXPECT_GT(split, 5000);
}

TEST(TpSliceTest, FusedProjectionHasABoxForEachOfItsSections) {
  // q | k | v of 4 heads of 2 rows each.
  const ParamSpec qkv = Split({24, 5}, 0, 3, 4);
  EXPECT_THAT(TpBoxes(qkv, 2, 1), ElementsAre(TensorBox{{4, 0}, {4, 5}}, TensorBox{{12, 0}, {4, 5}},
                                              TensorBox{{20, 0}, {4, 5}}));
  EXPECT_THAT(LocalShape(qkv, 2, 1), ElementsAre(12, 5));
  EXPECT_EQ(TpReplicas(qkv, 2), 1);
}

TEST(TpSliceTest, ElementsAreSplitAsEvenAsTheyGo) {
  const ParamSpec table = Split({7, 3}, 0, 1, 0);
  EXPECT_THAT(TpBoxes(table, 3, 0), ElementsAre(TensorBox{{0, 0}, {3, 3}}));
  EXPECT_THAT(TpBoxes(table, 3, 1), ElementsAre(TensorBox{{3, 0}, {2, 3}}));
  EXPECT_THAT(TpBoxes(table, 3, 2), ElementsAre(TensorBox{{5, 0}, {2, 3}}));
  const ParamSpec row = Split({3, 8}, 1, 1, 0);
  EXPECT_THAT(TpBoxes(row, 2, 1), ElementsAre(TensorBox{{0, 4}, {3, 4}}));
}

TEST(TpSliceTest, FewerHeadsThanRanksAreRepeated) {
  const ParamSpec kv = Split({16, 3}, 0, 1, 2);
  EXPECT_EQ(TpReplicas(kv, 8), 4);
  EXPECT_EQ(TpReplicas(kv, 2), 1);
  for (int rank = 0; rank < 8; ++rank) {
    EXPECT_THAT(TpBoxes(kv, 8, rank), ElementsAre(TensorBox{{rank < 4 ? 0 : 8, 0}, {8, 3}}));
  }
}

TEST(TpSliceTest, ReplicatedParametersAreWholeEverywhere) {
  const ParamSpec norm = Split({6}, -1, 1, 0);
  EXPECT_EQ(TpReplicas(norm, 4), 4);
  EXPECT_THAT(TpBoxes(norm, 4, 3), ElementsAre(TensorBox{{0}, {6}}));
  EXPECT_THAT(LocalShape(norm, 4, 3), ElementsAre(6));
  const ParamSpec scalar = Split({}, -1, 1, 0);
  EXPECT_EQ(TpBoxes(scalar, 4, 0)[0].NumElements(), 1);
}

TEST(TpSliceTest, AnImpossibleSplitNamesTheRule) {
  EXPECT_EQ(CheckTpSplit(Split({24, 5}, 0, 3, 4), 3).message(),
            "4 heads of p cannot be split over 3 ranks");
  EXPECT_EQ(CheckTpSplit(Split({4}, 0, 1, 2), 3).message(),
            "2 heads of p cannot be split over 3 ranks");
  EXPECT_EQ(CheckTpSplit(Split({5, 2}, 0, 1, 0), 6).message(),
            "5 rows of p cannot be split over 6 ranks");
  EXPECT_TRUE(CheckTpSplit(Split({4}, 0, 1, 2), 4).ok());
  EXPECT_EQ(CheckTpSplit(Split({3, 4}, 1, 1, 2), 4).message(),
            "2 heads of p cannot be split over 4 ranks")
      << "row-parallel: a repeated slice would count twice";
}

}  // namespace
}  // namespace weft
