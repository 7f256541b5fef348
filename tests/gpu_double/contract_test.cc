// Each rule of NCCL's that the double watches, broken on purpose.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nccl.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "cluster/base/clock.h"
#include "tests/gpu_double/contract.h"

namespace weft::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr ncclDataType_t kFloat = ncclFloat32;

// Polls until nothing is in progress, for at most some seconds.
ncclResult_t Ready(ncclComm_t comm) {
  const TimePoint give_up = Clock::now() + std::chrono::seconds(10);
  ncclResult_t state = ncclInProgress;
  while (ncclCommGetAsyncError(comm, &state) == ncclSuccess && state == ncclInProgress &&
         Clock::now() < give_up)
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  return state;
}

// What a rank of the tests has.
struct Rank {
  int rank = 0;
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
  std::vector<float> data = std::vector<float>(1000, 1.0f);

  ncclResult_t AllReduce(size_t count, ncclComm_t on) {
    ncclAllReduce(data.data(), data.data(), count, kFloat, ncclSum, on, stream);
    return Ready(on);
  }
  // Once the stream has done everything.
  ncclResult_t Outcome() {
    cudaStreamSynchronize(stream);
    return Ready(comm);
  }
  std::string Error() const { return ncclGetLastError(comm); }
  ncclComm_t SplitAll() {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclComm_t made = nullptr;
    ncclCommSplit(comm, 0, rank, &made, &config);
    EXPECT_EQ(made, nullptr) << "not before the parent is ready";
    EXPECT_EQ(Ready(comm), ncclSuccess);
    return made;
  }
};

using Body = std::function<void(Rank&)>;

// Ranks as threads with a device each.
void OnRanks(int size, const Body& body) {
  ncclUniqueId id;
  ASSERT_EQ(ncclGetUniqueId(&id), ncclSuccess);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      Rank self{.rank = rank};
      cudaSetDevice(rank);
      cudaStreamCreateWithFlags(&self.stream, cudaStreamNonBlocking);
      ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
      config.blocking = 0;
      EXPECT_EQ(ncclCommInitRankConfig(&self.comm, size, id, rank, &config), ncclInProgress);
      EXPECT_EQ(Ready(self.comm), ncclSuccess);
      body(self);
      if (self.comm != nullptr) ncclCommAbort(self.comm);
      cudaStreamDestroy(self.stream);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Two ranks whose calls must not go together: both hear it, and one breach is noted.
void ExpectBreach(const Body& body, const std::string& words) {
  OnRanks(2, [&](Rank& self) {
    body(self);
    EXPECT_EQ(self.Outcome(), ncclInvalidUsage);
    EXPECT_THAT(self.Error(), HasSubstr(words));
  });
  EXPECT_THAT(TakeBreaches(), ElementsAre(HasSubstr(words)));
}

TEST(NcclContractTest, CallsThatGoTogetherAreNoBreach) {
  OnRanks(3, [](Rank& self) {
    EXPECT_EQ(self.AllReduce(1000, self.comm), ncclSuccess);
    ncclComm_t other = self.SplitAll();
    EXPECT_EQ(self.AllReduce(1000, other), ncclSuccess);
    EXPECT_EQ(self.Outcome(), ncclSuccess) << self.Error();
    EXPECT_EQ(self.data, std::vector<float>(1000, 9.0f));
    ncclCommAbort(other);
  });
}

TEST(NcclContractTest, WrongOrder) {
  ExpectBreach(
      [](Rank& self) {
        if (self.rank == 0) {
          self.AllReduce(8, self.comm);
        } else {
          ncclBroadcast(self.data.data(), self.data.data(), 8, kFloat, 0, self.comm, self.stream);
          Ready(self.comm);
        }
      },
      "ranks disagree");
}

TEST(NcclContractTest, WrongCount) {
  ExpectBreach([](Rank& self) { self.AllReduce(self.rank == 0 ? 8 : 9, self.comm); },
               "ranks disagree");
}

TEST(NcclContractTest, WrongType) {
  ExpectBreach(
      [](Rank& self) {
        ncclAllReduce(self.data.data(), self.data.data(), 8, self.rank == 0 ? kFloat : ncclInt64,
                      ncclSum, self.comm, self.stream);
        Ready(self.comm);
      },
      "ranks disagree");
}

TEST(NcclContractTest, WrongRoot) {
  ExpectBreach(
      [](Rank& self) {
        ncclBroadcast(self.data.data(), self.data.data(), 8, kFloat, self.rank, self.comm,
                      self.stream);
        Ready(self.comm);
      },
      "ranks disagree");
}

TEST(NcclContractTest, WrongSizeOfAMessage) {
  ExpectBreach(
      [](Rank& self) {
        if (self.rank == 0) {
          ncclSend(self.data.data(), 8, kFloat, 1, self.comm, self.stream);
        } else {
          ncclRecv(self.data.data(), 9, kFloat, 0, self.comm, self.stream);
        }
        Ready(self.comm);
      },
      "receives 36");
}

TEST(NcclContractTest, MissingGroup) {
  ExpectBreach(
      [](Rank& self) {
        const int peer = 1 - self.rank;
        ncclGroupStart();  // connected, the two ranks' calls return; their kernels wait
        ncclSend(self.data.data(), 8, kFloat, peer, self.comm, self.stream);
        ncclRecv(self.data.data() + 8, 8, kFloat, peer, self.comm, self.stream);
        ncclGroupEnd();
        Ready(self.comm);
        ncclSend(self.data.data(), 8, kFloat, peer, self.comm, self.stream);
        Ready(self.comm);
        ncclRecv(self.data.data() + 8, 8, kFloat, peer, self.comm, self.stream);
        Ready(self.comm);
      },
      "is a group missing");
}

TEST(NcclContractTest, GroupedMessagesPassEachOther) {
  OnRanks(2, [](Rank& self) {
    const int peer = 1 - self.rank;
    self.data.assign(1000, static_cast<float>(self.rank));
    ncclGroupStart();
    ncclSend(self.data.data(), 8, kFloat, peer, self.comm, self.stream);
    ncclRecv(self.data.data() + 8, 8, kFloat, peer, self.comm, self.stream);
    EXPECT_EQ(ncclGroupEnd(), ncclInProgress);
    EXPECT_EQ(Ready(self.comm), ncclSuccess);
    EXPECT_EQ(self.Outcome(), ncclSuccess) << self.Error();
    EXPECT_EQ(self.data[8], static_cast<float>(peer));
  });
}

TEST(NcclContractTest, GroupWithoutEnd) {
  OnRanks(1, [](Rank& self) {
    ncclGroupStart();
    ncclAllReduce(self.data.data(), self.data.data(), 8, kFloat, ncclSum, self.comm, self.stream);
    ncclResult_t state = ncclSuccess;
    EXPECT_EQ(ncclCommGetAsyncError(self.comm, &state), ncclInvalidUsage);
    ncclGroupEnd();
    Ready(self.comm);
  });
  EXPECT_THAT(TakeBreaches(), ElementsAre(HasSubstr("ncclGroupEnd is missing")));
}

TEST(NcclContractTest, UseAfterAbort) {
  OnRanks(1, [](Rank& self) {
    ncclCommAbort(self.comm);
    EXPECT_EQ(ncclAllReduce(self.data.data(), self.data.data(), 8, kFloat, ncclSum, self.comm,
                            self.stream),
              ncclInvalidUsage);
    self.comm = nullptr;
  });
  EXPECT_THAT(TakeBreaches(), ElementsAre("ncclAllReduce after ncclCommAbort"));
}

// Rank 0 has two communicators in wait for its peer, and aborts them one after the other.
TEST(NcclContractTest, AbortsOneByOne) {
  std::atomic<bool> aborted = false;
  OnRanks(2, [&](Rank& self) {
    ncclComm_t other = self.SplitAll();
    if (self.rank == 0) {
      cudaStream_t beside = nullptr;
      cudaStreamCreateWithFlags(&beside, cudaStreamNonBlocking);
      ncclAllReduce(self.data.data(), self.data.data(), 8, kFloat, ncclSum, self.comm, self.stream);
      Ready(self.comm);
      ncclAllReduce(self.data.data() + 8, self.data.data() + 8, 8, kFloat, ncclSum, other, beside);
      Ready(other);
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      ncclCommAbort(other);
      ncclCommAbort(self.comm);
      aborted = true;
      cudaStreamDestroy(beside);
    } else {
      while (!aborted) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      ncclCommAbort(other);
      ncclCommAbort(self.comm);
    }
    self.comm = nullptr;
  });
  EXPECT_THAT(TakeBreaches(), ElementsAre(HasSubstr("abort both in one group")));
}

TEST(NcclContractTest, InProgressNotPolled) {
  OnRanks(1, [](Rank& self) {
    ncclAllReduce(self.data.data(), self.data.data(), 8, kFloat, ncclSum, self.comm, self.stream);
    EXPECT_EQ(ncclAllReduce(self.data.data(), self.data.data(), 8, kFloat, ncclSum, self.comm,
                            self.stream),
              ncclInvalidUsage);
  });
  EXPECT_THAT(TakeBreaches(), ElementsAre(HasSubstr("while a launch is in progress")));
}

// The event stands before NCCL's kernel and says nothing of it.
TEST(NcclContractTest, EventRecordedWhileInProgress) {
  OnRanks(1, [](Rank& self) {
    cudaEvent_t event = nullptr;
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    ncclAllReduce(self.data.data(), self.data.data(), 8, kFloat, ncclSum, self.comm, self.stream);
    cudaEventRecord(event, self.stream);
    Ready(self.comm);
    self.Outcome();
    cudaEventDestroy(event);
  });
  EXPECT_THAT(TakeBreaches(), ElementsAre(HasSubstr("launch there was still in progress")));
}

TEST(NcclContractTest, CommunicatorsInDifferentOrders) {
  OnRanks(2, [](Rank& self) {
    ncclComm_t other = self.SplitAll();
    ncclComm_t first = self.rank == 0 ? self.comm : other;
    ncclComm_t second = self.rank == 0 ? other : self.comm;
    cudaStream_t beside = nullptr;
    cudaStreamCreateWithFlags(&beside, cudaStreamNonBlocking);
    self.AllReduce(8, first);
    ncclAllReduce(self.data.data() + 8, self.data.data() + 8, 8, kFloat, ncclSum, second, beside);
    Ready(second);
    cudaStreamSynchronize(self.stream);
    cudaStreamSynchronize(beside);
    cudaStreamDestroy(beside);
    ncclCommAbort(other);
  });
  const auto breaches = TakeBreaches();
  ASSERT_FALSE(breaches.empty());
  for (const std::string& breach : breaches)
    EXPECT_THAT(breach, HasSubstr("communicators used in different orders"));
}

TEST(NcclContractTest, BufferReusedBeforeItsEvent) {
  OnRanks(1, [](Rank& self) {
    std::vector<float> next(8, 2.0f);
    self.AllReduce(8, self.comm);
    cudaMemcpy(self.data.data(), next.data(), 32, cudaMemcpyHostToDevice);
    self.Outcome();
    cudaMemcpy(self.data.data(), next.data(), 32, cudaMemcpyHostToDevice);  // this one is right
  });
  EXPECT_THAT(TakeBreaches(), ElementsAre(HasSubstr("cudaMemcpy writes bytes that ncclAllReduce")));
}

TEST(NcclContractTest, TwoRanksOnOneDevice) {
  ncclUniqueId id;
  ncclGetUniqueId(&id);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
      config.blocking = 0;
      ncclComm_t comm = nullptr;
      ncclCommInitRankConfig(&comm, 2, id, rank, &config);
      EXPECT_EQ(Ready(comm), ncclInvalidUsage);
      ncclCommAbort(comm);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(TakeBreaches(), ElementsAre(HasSubstr("on the same device")));
}

}  // namespace
}  // namespace weft::testing
