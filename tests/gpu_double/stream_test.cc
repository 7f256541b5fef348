// The rules of streams and events, as the CUDA double keeps them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "tests/gpu_double/contract.h"
#include "tests/gpu_double/stream.h"

namespace weft::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

[[maybe_unused]] const bool kListening = FailTestsOnBreaches();

class StreamTest : public ::testing::Test {
 protected:
  void SetUp() override {
    cudaSetDevice(0);
    for (cudaStream_t* stream : {&a_, &b_})
      cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&event_, cudaEventDisableTiming);
  }
  void TearDown() override {
    cudaEventDestroy(event_);
    for (cudaStream_t stream : {a_, b_}) cudaStreamDestroy(stream);
  }
  // Sets *value after a while.
  void SetLater(cudaStream_t stream, int* to, int value) {
    Enqueue(stream, {"a kernel", {{to, sizeof(int), true}}, [=] {
                       std::this_thread::sleep_for(std::chrono::milliseconds(5));
                       *to = value;
                     }});
  }
  // Says that it writes *to, but leaves it alone: a breach of the contract must not be a data race of this test.
  void ClaimLater(cudaStream_t stream, int* to) {
    Enqueue(stream, {"a kernel", {{to, sizeof(int), true}}, [] {
                       std::this_thread::sleep_for(std::chrono::milliseconds(5));
                     }});
  }

  cudaStream_t a_ = nullptr;
  cudaStream_t b_ = nullptr;
  cudaEvent_t event_ = nullptr;
};

TEST_F(StreamTest, WorkIsInOrderAndNotDoneBeforeItsEvent) {
  int value = 0;
  SetLater(a_, &value, 1);
  SetLater(a_, &value, 2);
  cudaEventRecord(event_, a_);
  EXPECT_EQ(cudaEventQuery(event_), cudaErrorNotReady);
  EXPECT_EQ(cudaEventSynchronize(event_), cudaSuccess);
  EXPECT_EQ(value, 2);
  EXPECT_EQ(cudaStreamSynchronize(a_), cudaSuccess);
}

TEST_F(StreamTest, AnEventOrdersStreams) {
  int value = 0;
  int copy = 0;
  SetLater(a_, &value, 3);
  cudaEventRecord(event_, a_);
  cudaStreamWaitEvent(b_, event_, 0);
  cudaMemcpyAsync(&copy, &value, sizeof(int), cudaMemcpyDeviceToDevice, b_);
  cudaStreamSynchronize(b_);
  EXPECT_EQ(copy, 3);
  EXPECT_THAT(TakeBreaches(), IsEmpty());
}

TEST_F(StreamTest, BytesReusedBeforeTheirEventAreSeen) {
  int value = 0;
  int copy = 0;
  ClaimLater(a_, &value);
  cudaMemcpyAsync(&copy, &value, sizeof(int), cudaMemcpyDeviceToDevice, b_);
  EXPECT_THAT(TakeBreaches(), ElementsAre(HasSubstr("reads bytes that a kernel on stream")));
  cudaStreamSynchronize(a_);
  cudaStreamSynchronize(b_);
  ClaimLater(a_, &value);
  cudaMemcpy(&copy, &value, sizeof(int), cudaMemcpyDeviceToHost);
  EXPECT_THAT(TakeBreaches(), ElementsAre(HasSubstr("cudaMemcpy reads bytes")));
}

// An event that another stream's event has waited for counts, too.
TEST_F(StreamTest, WaitsAreTransitive) {
  int value = 0;
  int copy = 0;
  SetLater(a_, &value, 3);
  cudaEventRecord(event_, a_);
  cudaStreamWaitEvent(b_, event_, 0);
  cudaStreamSynchronize(b_);
  cudaMemcpy(&copy, &value, sizeof(int), cudaMemcpyDeviceToHost);
  EXPECT_EQ(copy, 3);
}

TEST_F(StreamTest, AnEventOfAnotherDeviceIsRefused) {
  cudaSetDevice(1);
  cudaEvent_t other = nullptr;
  cudaEventCreateWithFlags(&other, cudaEventDisableTiming);
  EXPECT_EQ(cudaEventRecord(other, a_), cudaErrorInvalidResourceHandle);
  cudaEventDestroy(other);
}

}  // namespace
}  // namespace weft::testing
