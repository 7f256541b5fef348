#include "worker/evaluation.h"

#include <gtest/gtest.h>

#include <string>

namespace weft {
namespace {

// Under ZeRO 3 a batch is a collective: a rank with fewer rows must not stop earlier.
TEST(EvalPartTest, EveryRankHasAsManyBatches) {
  for (const int64_t total : {1, 7, 8, 9, 10, 100}) {
    for (const int64_t ranks : {1, 2, 3, 4, 8}) {
      for (const int64_t batch_size : {1, 2, 4, 64}) {
        SCOPED_TRACE(std::to_string(total) + " rows, " + std::to_string(ranks) + " ranks, " +
                     std::to_string(batch_size) + " a batch");
        int64_t next = 0;
        for (int64_t rank = 0; rank < ranks; ++rank) {
          const EvalPart part = EvalPartOf(total, ranks, rank, batch_size);
          EXPECT_EQ(part.batches.size(), EvalPartOf(total, ranks, 0, batch_size).batches.size());
          int64_t left = part.count;
          for (const EvalPart::Batch& batch : part.batches) {
            ASSERT_TRUE(batch.begin >= 0 && batch.begin < batch.end && batch.end <= total);
            EXPECT_LE(batch.end - batch.begin, batch_size);
            if (left == 0) continue;
            EXPECT_EQ(batch.begin, next);
            next = batch.end;
            left -= batch.end - batch.begin;
          }
          EXPECT_EQ(left, 0);
        }
        EXPECT_EQ(next, total);
      }
    }
  }
}

}  // namespace
}  // namespace weft
