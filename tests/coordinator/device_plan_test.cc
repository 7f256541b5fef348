#include "coordinator/device_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace weft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

control::WorkerHello Sees(const std::vector<std::string>& uuids, bool reads_host_memory = false) {
  control::WorkerHello hello;
  for (const std::string& uuid : uuids) {
    control::Gpu* gpu = hello.add_gpus();
    gpu->set_uuid(uuid);
    gpu->set_name("Fast GPU");
    gpu->set_reads_host_memory(reads_host_memory);
  }
  return hello;
}

StatusOr<DevicePlan> Plan(const Layout& layout, const std::vector<control::WorkerHello>& hellos) {
  std::vector<RankPlace> places;
  for (size_t rank = 0; rank < hellos.size(); ++rank)
    places.push_back({"n" + std::to_string(rank / 2), &hellos[rank]});
  return PlanDevices(layout, places);
}

Layout Wanting(Device device, CommBackend backend) {
  Layout layout;
  layout.set_device(device);
  layout.set_backend(backend);
  return layout;
}

TEST(DevicePlanTest, AutoIsCpuAndTcpWhereOneRankSeesNoGpu) {
  const auto plan = Plan(Layout(), {Sees({"a"}), Sees({})});
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->layout.device(), CPU);
  EXPECT_EQ(plan->layout.backend(), TCP);
  EXPECT_THAT(plan->gpus, ElementsAre(-1, -1));
  EXPECT_EQ(plan->text, "2 ranks on CPUs over TCP");
}

TEST(DevicePlanTest, AutoGivesEachRankAGpuOfItsOwn) {
  // Two hosts of two GPUs; on the second one each process was given one.
  const auto plan = Plan(Layout(), {Sees({"a", "b"}), Sees({"a", "b"}), Sees({"c"}), Sees({"d"})});
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->layout.device(), CUDA);
  EXPECT_EQ(plan->layout.backend(), NCCL);
  EXPECT_THAT(plan->gpus, ElementsAre(0, 1, 0, 0));
  EXPECT_EQ(plan->text, "4 ranks on 4 GPUs (Fast GPU) over NCCL");
}

TEST(DevicePlanTest, RanksThatShareAGpuTalkOverTcp) {
  const auto plan = Plan(Layout(), {Sees({"a"}), Sees({"a"})});
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->layout.device(), CUDA);
  EXPECT_EQ(plan->layout.backend(), TCP);
  EXPECT_THAT(plan->gpus, ElementsAre(0, 0));
  EXPECT_EQ(plan->text, "2 ranks on 1 GPU (Fast GPU) over TCP");
}

TEST(DevicePlanTest, KeepsWhatTheLayoutSays) {
  const auto cpu = Plan(Wanting(CPU, BACKEND_AUTO), {Sees({"a"}), Sees({"b"})});
  ASSERT_TRUE(cpu.ok());
  EXPECT_EQ(cpu->layout.device(), CPU);
  EXPECT_EQ(cpu->layout.backend(), TCP);
  EXPECT_THAT(cpu->gpus, ElementsAre(-1, -1));
  const auto mpi = Plan(Wanting(DEVICE_AUTO, MPI), {Sees({"a"}), Sees({"b"})});
  ASSERT_TRUE(mpi.ok());
  EXPECT_EQ(mpi->layout.device(), CUDA);
  EXPECT_EQ(mpi->layout.backend(), MPI);
}

TEST(DevicePlanTest, RefusesWhatIsNotThere) {
  EXPECT_THAT(
      Plan(Wanting(CUDA, BACKEND_AUTO), {Sees({"a"}), Sees({"b"}), Sees({})}).status().message(),
      HasSubstr("layout.device is CUDA, but rank 2 (host n1) sees no CUDA device"));
  EXPECT_THAT(Plan(Wanting(DEVICE_AUTO, NCCL), {Sees({})}).status().message(),
              HasSubstr("layout.backend is NCCL, but rank 0 (host n0) sees no CUDA device"));
  EXPECT_THAT(Plan(Wanting(CUDA, NCCL), {Sees({"a"}), Sees({"a"})}).status().message(),
              HasSubstr("rank 1 (host n0) would share a GPU with another rank"));
}

TEST(DevicePlanTest, NcclOnCpuTensorsNeedsGpusThatReadHostMemory) {
  EXPECT_THAT(Plan(Wanting(CPU, NCCL), {Sees({"a"}), Sees({"b"})}).status().message(),
              HasSubstr("cannot work on the host's memory"));
  const auto plan = Plan(Wanting(CPU, NCCL), {Sees({"a", "b"}, true), Sees({"a", "b"}, true)});
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->layout.device(), CPU);
  EXPECT_EQ(plan->layout.backend(), NCCL);
  EXPECT_THAT(plan->gpus, ElementsAre(0, 1));
}

}  // namespace
}  // namespace weft
