// What communicator.h promises of values and order, over every backend.
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "tests/comm/conformance.h"
#include "tests/comm/elements.h"

namespace weft::testing {
namespace {

TYPED_TEST(ConformanceTest, OneRank) {
  const Status status = this->Run(1);
  EXPECT_TRUE(status.ok()) << status;
}

TYPED_TEST(ConformanceTest, TwoRanks) {
  const Status status = this->Run(2);
  EXPECT_TRUE(status.ok()) << status;
}

TYPED_TEST(ConformanceTest, ThreeRanks) {
  const Status status = this->Run(3);
  EXPECT_TRUE(status.ok()) << status;
}

TYPED_TEST(ConformanceTest, MostRanks) {
  const Status status = this->Run(TypeParam::kMostRanks);
  EXPECT_TRUE(status.ok()) << status;
}

// Several operations in the queue, waited for in another order, with buffers of their own.
TYPED_TEST(ConformanceTest, OperationsRunInOrderOfTheCalls) {
  const Status status = TypeParam::Run(3, [](Communicator& comm) -> Status {
    int64_t value = comm.rank() + 1;
    std::vector<WorkPtr> works;
    for (int i = 0; i < 5; ++i)
      works.push_back(comm.AllReduce(&value, 1, DType::kInt64, ReduceOp::kSum, {.name = "v"}));
    for (auto work = works.rbegin(); work != works.rend(); ++work)
      WEFT_RETURN_IF_ERROR((*work)->Wait());
    WEFT_RETURN_IF_ERROR(Expect(works[4]->sequence() == 5 && works[4]->name() == "v", "sequence"));
    WEFT_RETURN_IF_ERROR(Expect(works[0]->Done(), "done"));
    return Expect(value == 6 * 3 * 3 * 3 * 3, "sum is " + std::to_string(value));
  });
  EXPECT_TRUE(status.ok()) << status;
}

// Values whose sum depends on the order and on where it is rounded.
TYPED_TEST(ConformanceTest, SumsAreTheSameBitsOnAllRanks) {
  const Status status = TypeParam::Run(4, [](Communicator& comm) -> Status {
    for (const size_t count : {size_t{100}, size_t{50'000}}) {
      std::vector<float> sum(count);
      for (size_t i = 0; i < count; ++i) {
        sum[i] = static_cast<float>(Value(comm.rank(), i)) *
                 std::pow(10.0f, static_cast<float>((i + static_cast<size_t>(comm.rank())) % 7));
      }
      WEFT_RETURN_IF_ERROR(
          comm.AllReduce(sum.data(), count, DType::kFloat32, ReduceOp::kSum, {.name = "s"})
              ->Wait());
      std::vector<float> all(count * 4);
      WEFT_RETURN_IF_ERROR(
          comm.AllGather(sum.data(), all.data(), count, DType::kFloat32, {.name = "g"})->Wait());
      for (size_t rank = 0; rank < 4; ++rank) {
        const bool equal =
            std::memcmp(all.data() + rank * count, sum.data(), count * sizeof(float)) == 0;
        WEFT_RETURN_IF_ERROR(Expect(equal, "rank " + std::to_string(rank) + " has other bits"));
      }
    }
    return OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace weft::testing
