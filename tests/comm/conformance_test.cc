// What communicator.h promises, over every backend.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <sstream>
#include <thread>

#include "cluster/comm/communicator.h"
#include "tests/comm/backends.h"

namespace weft {
namespace {

using ::testing::HasSubstr;
using testing::RankFn;

constexpr DType kAllTypes[] = {DType::kFloat32, DType::kFloat64, DType::kBFloat16, DType::kInt64,
                               DType::kUInt8};

// ---------------------------------------------------------------- values, and what they should become

// A pattern that differs by rank and place. Small integers and fractions with rounding errors alike.
double Value(int rank, size_t i) {
  const auto mixed =
      static_cast<uint32_t>((i + 1) * 2654435761u + static_cast<uint32_t>(rank) * 40503u);
  return (static_cast<double>(mixed % 2000) - 1000.0) / 7.0;
}

// By way of nearbyint, unlike the code under test.
float RoundToBFloat16(float value) {
  if (value == 0) return value;
  const int exponent = std::ilogb(value);
  const float unit = std::ldexp(1.0f, exponent - 7);
  return std::nearbyint(value / unit) * unit;
}

// What rank `rank` has at element i, after the rounding of its type.
double Stored(DType dtype, int rank, size_t i) {
  const double value = Value(rank, i);
  switch (dtype) {
    case DType::kFloat32:
      return static_cast<float>(value);
    case DType::kFloat64:
      return value;
    case DType::kBFloat16:
      return RoundToBFloat16(static_cast<float>(value));
    case DType::kInt64:
      return static_cast<double>(static_cast<int64_t>(value));
    case DType::kUInt8:
      return static_cast<uint8_t>(static_cast<int64_t>(value) & 0x3f);
  }
  return 0;
}

// Unaligned memory with elements of a type.
class Elements {
 public:
  Elements(DType dtype, size_t count, size_t offset = 0)
      : dtype_(dtype),
        count_(count),
        offset_(offset),
        bytes_(count * DTypeSize(dtype) + offset + 1, 0xee) {}

  void* data() { return bytes_.data() + offset_; }
  size_t byte_count() const { return count_ * DTypeSize(dtype_); }

  void Set(size_t i, double value) {
    switch (dtype_) {
      case DType::kFloat32:
        return Store(i, static_cast<float>(value));
      case DType::kFloat64:
        return Store(i, value);
      case DType::kBFloat16:
        return Store(
            i, static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(value)) >> 16));
      case DType::kInt64:
        return Store(i, static_cast<int64_t>(value));
      case DType::kUInt8:
        return Store(i, static_cast<uint8_t>(value));
    }
  }
  double Get(size_t i) const {
    switch (dtype_) {
      case DType::kFloat32:
        return Load<float>(i);
      case DType::kFloat64:
        return Load<double>(i);
      case DType::kBFloat16:
        return std::bit_cast<float>(static_cast<uint32_t>(Load<uint16_t>(i)) << 16);
      case DType::kInt64:
        return static_cast<double>(Load<int64_t>(i));
      case DType::kUInt8:
        return Load<uint8_t>(i);
    }
    return 0;
  }
  void Fill(int rank, size_t shift = 0) {
    for (size_t i = 0; i < count_; ++i) Set(i, Stored(dtype_, rank, i + shift));
  }
  // Nobody wrote behind the end.
  bool EndIntact() const { return bytes_.back() == 0xee; }

 private:
  template <typename T>
  void Store(size_t i, T value) {
    std::memcpy(bytes_.data() + offset_ + i * sizeof(T), &value, sizeof(T));
  }
  template <typename T>
  T Load(size_t i) const {
    T value;
    std::memcpy(&value, bytes_.data() + offset_ + i * sizeof(T), sizeof(T));
    return value;
  }

  DType dtype_;
  size_t count_;
  size_t offset_;
  std::vector<uint8_t> bytes_;
};

double Reduced(DType dtype, ReduceOp op, int ranks, size_t i) {
  double sum64 = Stored(dtype, 0, i);
  auto sum32 = static_cast<float>(sum64);
  double max = sum64;
  for (int rank = 1; rank < ranks; ++rank) {
    const double next = Stored(dtype, rank, i);
    sum64 += next;
    sum32 += static_cast<float>(next);
    max = std::max(max, next);
  }
  if (op == ReduceOp::kMax) return max;
  switch (dtype) {
    case DType::kFloat32:
      return sum32;
    case DType::kBFloat16:
      return RoundToBFloat16(sum32);
    case DType::kUInt8:
      return static_cast<uint8_t>(sum64);
    default:
      return sum64;
  }
}

Status Expect(bool condition, const std::string& what) {
  return condition ? OkStatus() : Internal(what);
}

// By how much a sum of up to eight of these values may differ if another order is taken, and rounded at every step.
double SumSlack(DType dtype, ReduceOp op) {
  if (op == ReduceOp::kMax) return 0;
  return dtype == DType::kFloat32    ? 1e-3
         : dtype == DType::kFloat64  ? 1e-11
         : dtype == DType::kBFloat16 ? 16
                                     : 0;
}

// Elements [begin, begin + count) of what rank `me` got; `expected(i)` counts from 0.
template <typename ExpectedFn>
Status Compare(const std::string& what, const Elements& got, size_t begin, size_t count,
               const ExpectedFn& expected, double slack = 0) {
  for (size_t i = 0; i < count; ++i) {
    if (std::abs(got.Get(begin + i) - expected(i)) <= slack) continue;
    std::ostringstream text;
    text << what << ": element " << begin + i << " is " << got.Get(begin + i) << ", not "
         << expected(i);
    return Internal(text.str());
  }
  return Expect(got.EndIntact(), what + " wrote behind the end");
}

std::string Describe(const char* operation, DType dtype, size_t count, size_t offset) {
  std::ostringstream text;
  text << operation << " of " << count << " " << DTypeName(dtype) << " at offset " << offset;
  return text.str();
}

// ---------------------------------------------------------------- one check a collective

Status CheckAllReduce(Communicator& comm, DType dtype, ReduceOp op, size_t count, size_t offset,
                      bool rank_order) {
  Elements data(dtype, count, offset);
  data.Fill(comm.rank());
  WEFT_RETURN_IF_ERROR(comm.AllReduce(data.data(), count, dtype, op, {.name = "sum"})->Wait());
  return Compare(
      Describe("all_reduce", dtype, count, offset), data, 0, count,
      [&](size_t i) { return Reduced(dtype, op, comm.size(), i); },
      rank_order ? 0 : SumSlack(dtype, op));
}

Status CheckReduceScatter(Communicator& comm, DType dtype, ReduceOp op, size_t count, size_t offset,
                          bool rank_order) {
  Elements send(dtype, count * static_cast<size_t>(comm.size()), offset);
  Elements recv(dtype, count, offset);
  send.Fill(comm.rank());
  WEFT_RETURN_IF_ERROR(
      comm.ReduceScatter(send.data(), recv.data(), count, dtype, op, {.name = "shard"})->Wait());
  const size_t first = count * static_cast<size_t>(comm.rank());
  return Compare(
      Describe("reduce_scatter", dtype, count, offset), recv, 0, count,
      [&](size_t i) { return Reduced(dtype, op, comm.size(), first + i); },
      rank_order ? 0 : SumSlack(dtype, op));
}

Status CheckAllGather(Communicator& comm, DType dtype, size_t count, size_t offset, bool in_place) {
  Elements send(dtype, count, offset);
  Elements recv(dtype, count * static_cast<size_t>(comm.size()), offset);
  send.Fill(comm.rank());
  const void* from = send.data();
  if (in_place) {
    void* own =
        static_cast<std::byte*>(recv.data()) + static_cast<size_t>(comm.rank()) * send.byte_count();
    std::memcpy(own, send.data(), send.byte_count());
    from = own;
  }
  WEFT_RETURN_IF_ERROR(comm.AllGather(from, recv.data(), count, dtype, {.name = "gather"})->Wait());
  for (int rank = 0; rank < comm.size(); ++rank) {
    WEFT_RETURN_IF_ERROR(Compare(Describe("all_gather", dtype, count, offset), recv,
                                 static_cast<size_t>(rank) * count, count,
                                 [&](size_t i) { return Stored(dtype, rank, i); }));
  }
  return OkStatus();
}

Status CheckBroadcast(Communicator& comm, size_t bytes, size_t offset, int root) {
  Elements data(DType::kUInt8, bytes, offset);
  data.Fill(comm.rank());
  WEFT_RETURN_IF_ERROR(comm.Broadcast(data.data(), bytes, root, {.name = "weights"})->Wait());
  return Compare(Describe("broadcast", DType::kUInt8, bytes, offset), data, 0, bytes,
                 [&](size_t i) { return Stored(DType::kUInt8, root, i); });
}

// Rank a sends (a * 7 + b * 3 + 1) * scale bytes to rank b; some of them none.
Status CheckAllToAll(Communicator& comm, size_t scale) {
  const int n = comm.size();
  const auto bytes = [&](int from, int to) {
    return (from + to) % 3 == 1 ? 0 : static_cast<size_t>(from * 7 + to * 3 + 1) * scale;
  };
  std::vector<Elements> out;
  std::vector<Elements> in;
  std::vector<SendBuffer> send;
  std::vector<RecvBuffer> recv;
  for (int peer = 0; peer < n; ++peer) {
    out.emplace_back(DType::kUInt8, bytes(comm.rank(), peer), static_cast<size_t>(peer % 3));
    in.emplace_back(DType::kUInt8, bytes(peer, comm.rank()), static_cast<size_t>(peer % 2));
    out.back().Fill(comm.rank(), static_cast<size_t>(peer));
  }
  for (size_t p = 0; p < out.size(); ++p) {
    send.push_back({out[p].data(), out[p].byte_count()});
    recv.push_back({in[p].data(), in[p].byte_count()});
  }
  WEFT_RETURN_IF_ERROR(comm.AllToAll(send, recv, {.name = "exchange"})->Wait());
  for (int peer = 0; peer < n; ++peer) {
    const Elements& got = in[static_cast<size_t>(peer)];
    WEFT_RETURN_IF_ERROR(Compare("all_to_all", got, 0, got.byte_count(), [&](size_t i) {
      return Stored(DType::kUInt8, peer, i + static_cast<size_t>(comm.rank()));
    }));
  }
  return OkStatus();
}

// Around the ring, all at once: every rank has a send and a receive under way.
Status CheckSendRecv(Communicator& comm, size_t bytes) {
  if (comm.size() == 1) return OkStatus();
  const int next = (comm.rank() + 1) % comm.size();
  const int previous = (comm.rank() + comm.size() - 1) % comm.size();
  Elements out(DType::kUInt8, bytes, 1);
  Elements in(DType::kUInt8, bytes, 2);
  out.Fill(comm.rank());
  WorkPtr sent = comm.Send(out.data(), bytes, next, {.name = "p2p"});
  WorkPtr received = comm.Recv(in.data(), bytes, previous, {.name = "p2p"});
  WEFT_RETURN_IF_ERROR(sent->Wait());
  WEFT_RETURN_IF_ERROR(received->Wait());
  return Compare("send/recv", in, 0, bytes,
                 [&](size_t i) { return Stored(DType::kUInt8, previous, i); });
}

Status CheckEverything(Communicator& comm, bool rank_order) {
  const size_t kLarge = 70'001;  // several chunks, and not a multiple of anything
  for (const DType dtype : kAllTypes) {
    for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax}) {
      for (const size_t count : {size_t{0}, size_t{1}, size_t{3}, size_t{1000}}) {
        for (const size_t offset : {0, 1}) {
          WEFT_RETURN_IF_ERROR(CheckAllReduce(comm, dtype, op, count, offset, rank_order));
          WEFT_RETURN_IF_ERROR(CheckReduceScatter(comm, dtype, op, count, offset, rank_order));
        }
      }
    }
    WEFT_RETURN_IF_ERROR(CheckAllReduce(comm, dtype, ReduceOp::kSum, kLarge, 3, rank_order));
    WEFT_RETURN_IF_ERROR(
        CheckReduceScatter(comm, dtype, ReduceOp::kSum, kLarge / 3, 1, rank_order));
    for (const size_t count : {size_t{0}, size_t{1}, size_t{777}, kLarge}) {
      WEFT_RETURN_IF_ERROR(CheckAllGather(comm, dtype, count, 1, false));
      WEFT_RETURN_IF_ERROR(CheckAllGather(comm, dtype, count, 0, true));
    }
  }
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{4097}, size_t{1'500'000}}) {
    WEFT_RETURN_IF_ERROR(CheckBroadcast(comm, bytes, 1, static_cast<int>(bytes) % comm.size()));
    WEFT_RETURN_IF_ERROR(CheckSendRecv(comm, bytes));
  }
  for (const size_t scale : {1, 100, 30'000}) WEFT_RETURN_IF_ERROR(CheckAllToAll(comm, scale));
  return comm.Barrier({.name = "end"})->Wait();
}

// ---------------------------------------------------------------- the suite

template <typename Backend>
class ConformanceTest : public ::testing::Test {
 protected:
  static Status Run(int ranks) {
    return Backend::Run(
        ranks, [](Communicator& comm) { return CheckEverything(comm, Backend::kRankOrder); });
  }
};

TYPED_TEST_SUITE(ConformanceTest, testing::AllBackends, testing::BackendNames);

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

// Rank 1 never calls: the others name the operation and the rank; the first cause stays, and rank 1 hears of it.
TYPED_TEST(ConformanceTest, DeadlineNamesOperationAndPeer) {
  if (!TypeParam::kTellsPeers) GTEST_SKIP() << "NCCL tells no peers: nccl_double_test.cc";
  const Status status = TypeParam::Run(3, [](Communicator& comm) -> Status {
    std::vector<float> data(30'000);
    WEFT_RETURN_IF_ERROR(comm.Barrier({.name = "start"})->Wait());
    if (comm.rank() == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(600));
      const Status heard = comm.Barrier({.name = "late"})->Wait();
      return Expect(heard.code() == StatusCode::kUnavailable, "rank 1 heard " + heard.ToString());
    }
    // Rank 2 is more patient than rank 0, and is told by it.
    const auto timeout = std::chrono::milliseconds(comm.rank() == 0 ? 200 : 20'000);
    const Status late = comm.AllReduce(data.data(), data.size(), DType::kFloat32, ReduceOp::kSum,
                                       {.name = "grads", .timeout = timeout})
                            ->Wait();
    const StatusCode expected =
        comm.rank() == 0 ? StatusCode::kDeadlineExceeded : StatusCode::kUnavailable;
    WEFT_RETURN_IF_ERROR(Expect(late.code() == expected, late.ToString()));
    WEFT_RETURN_IF_ERROR(
        Expect(late.message().find("all_reduce grads #2") != std::string::npos, late.ToString()));
    // By now rank 2 waits only for rank 1, or also for rank 0, which waits for rank 1.
    if (comm.rank() == 0) {
      WEFT_RETURN_IF_ERROR(
          Expect(late.message().find("waiting for rank") != std::string::npos, late.ToString()));
      WEFT_RETURN_IF_ERROR(Expect(late.message().find("1") != std::string::npos, late.ToString()));
    }
    comm.Abort(Cancelled("later"));
    WEFT_RETURN_IF_ERROR(
        Expect(comm.failure().message() == late.message(), "the first cause is gone"));
    const Status again = comm.Barrier({.name = "again"})->Wait();
    return Expect(again.message() == late.message(),
                  "a later operation returns " + again.ToString());
  });
  EXPECT_TRUE(status.ok()) << status;
}

TYPED_TEST(ConformanceTest, AbortFromAnotherThreadEndsAllRanks) {
  if (!TypeParam::kTellsPeers) GTEST_SKIP() << "NCCL tells no peers: nccl_double_test.cc";
  const Status status = TypeParam::Run(3, [](Communicator& comm) -> Status {
    WEFT_RETURN_IF_ERROR(comm.Barrier({.name = "start"})->Wait());
    if (comm.rank() == 2) {  // calls nothing: it only hears
      const TimePoint give_up = Clock::now() + std::chrono::seconds(10);
      while (comm.failure().ok() && Clock::now() < give_up)
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      return Expect(comm.failure().message().find("operator") != std::string::npos,
                    comm.failure().ToString());
    }
    std::thread aborter([&comm] {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      if (comm.rank() == 0) comm.Abort(Cancelled("the operator said so"));
    });
    const TimePoint begin = Clock::now();
    const Status ended = comm.Barrier({.name = "never"})->Wait();
    aborter.join();
    const StatusCode expected =
        comm.rank() == 0 ? StatusCode::kCancelled : StatusCode::kUnavailable;
    WEFT_RETURN_IF_ERROR(Expect(ended.code() == expected, ended.ToString()));
    WEFT_RETURN_IF_ERROR(Expect(ended.message().find("the operator said so") != std::string::npos,
                                ended.ToString()));
    return Expect(Clock::now() - begin < std::chrono::seconds(5), "took too long");
  });
  EXPECT_TRUE(status.ok()) << status;
}

TYPED_TEST(ConformanceTest, RanksThatCallDifferentOperationsFindOut) {
  if (!TypeParam::kTellsPeers) GTEST_SKIP() << "NCCL tells no peers: nccl_double_test.cc";
  const Status status = TypeParam::Run(2, [](Communicator& comm) -> Status {
    float data[8] = {};
    const Status ended =
        comm.rank() == 0
            ? comm.AllReduce(data, 4, DType::kFloat32, ReduceOp::kSum, {.name = "loss"})->Wait()
            : comm.AllGather(data, data, 4, DType::kFloat32, {.name = "features"})->Wait();
    WEFT_RETURN_IF_ERROR(Expect(!ended.ok(), "no error"));
    WEFT_RETURN_IF_ERROR(
        Expect(ended.message().find("all_reduce loss") != std::string::npos, ended.ToString()));
    return Expect(ended.message().find("all_gather features") != std::string::npos,
                  ended.ToString());
  });
  EXPECT_TRUE(status.ok()) << status;
}

TYPED_TEST(ConformanceTest, SaysWhatItIsWaitingFor) {
  if (!TypeParam::kTellsPeers) GTEST_SKIP() << "NCCL tells no peers: nccl_double_test.cc";
  const Status status = TypeParam::Run(2, [](Communicator& comm) -> Status {
    WEFT_RETURN_IF_ERROR(Expect(comm.CurrentOperation().empty(), comm.CurrentOperation()));
    WorkPtr work;
    if (comm.rank() == 0) {
      work = comm.Barrier({.name = "step"});
      const TimePoint give_up = Clock::now() + std::chrono::seconds(10);
      const std::string expected = "barrier step #1, waiting for rank 1";
      while (comm.CurrentOperation() != expected && Clock::now() < give_up)
        std::this_thread::yield();
      WEFT_RETURN_IF_ERROR(Expect(comm.CurrentOperation() == expected, comm.CurrentOperation()));
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      work = comm.Barrier({.name = "step"});
    }
    return work->Wait();
  });
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace weft
