#include "worker/bench/comm_bench.h"

#include <ATen/ops/zeros.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <utility>

#include "cluster/base/mutex.h"
#include "cluster/comm/connect_mesh.h"
#include "cluster/comm/nccl_connect.h"
#include "cluster/comm/tcp_communicator.h"
#include "parallel/device/compute_device.h"

namespace weft {
namespace {

constexpr size_t kSmallest = 4 << 10;
constexpr int kWarmUp = 2;

// One operation of all ranks on buffers of `bytes` in all; returns its work.
struct CommOperation {
  const char* name;
  // Share of the bytes that crosses each rank's link, for n ranks.
  double (*link_share)(double n);
  std::vector<WorkPtr> (*start)(Communicator* comm, char* buffer, char* other, size_t bytes,
                                const OpOptions& options);
};

std::vector<WorkPtr> One(WorkPtr work) {
  std::vector<WorkPtr> works;
  works.push_back(std::move(work));
  return works;
}

std::vector<WorkPtr> StartAllReduce(Communicator* comm, char* buffer, char*, size_t bytes,
                                    const OpOptions& options) {
  return One(comm->AllReduce(buffer, bytes / 4, DType::kFloat32, ReduceOp::kSum, options));
}
std::vector<WorkPtr> StartAllGather(Communicator* comm, char* buffer, char* other, size_t bytes,
                                    const OpOptions& options) {
  const size_t own = bytes / 4 / static_cast<size_t>(comm->size());
  return One(comm->AllGather(other, buffer, own, DType::kFloat32, options));
}
std::vector<WorkPtr> StartReduceScatter(Communicator* comm, char* buffer, char* other, size_t bytes,
                                        const OpOptions& options) {
  const size_t own = bytes / 4 / static_cast<size_t>(comm->size());
  return One(comm->ReduceScatter(buffer, other, own, DType::kFloat32, ReduceOp::kSum, options));
}
std::vector<WorkPtr> StartAllToAll(Communicator* comm, char* buffer, char* other, size_t bytes,
                                   const OpOptions& options) {
  const auto n = static_cast<size_t>(comm->size());
  const size_t part = bytes / n;
  std::vector<SendBuffer> send;
  std::vector<RecvBuffer> recv;
  for (size_t peer = 0; peer < n; ++peer) {
    send.push_back({buffer + peer * part, part});
    recv.push_back({other + peer * part, part});
  }
  return One(comm->AllToAll(send, recv, options));
}
std::vector<WorkPtr> StartRing(Communicator* comm, char* buffer, char* other, size_t bytes,
                               const OpOptions& options) {
  const int n = comm->size();
  std::vector<WorkPtr> works;
  works.push_back(comm->Send(buffer, bytes, (comm->rank() + 1) % n, options));
  works.push_back(comm->Recv(other, bytes, (comm->rank() + n - 1) % n, options));
  return works;
}

double TwoParts(double n) { return 2 * (n - 1) / n; }
double OnePart(double n) { return (n - 1) / n; }
double Whole(double) { return 1; }

constexpr CommOperation kOperations[] = {{"all_reduce", TwoParts, StartAllReduce},
                                         {"all_gather", OnePart, StartAllGather},
                                         {"reduce_scatter", OnePart, StartReduceScatter},
                                         {"all_to_all", OnePart, StartAllToAll},
                                         {"send_recv", Whole, StartRing}};

struct BenchRank {
  Communicator* comm;
  const ComputeDevice& device;
  char* buffer;
  char* other;

  Status Call(const CommOperation& operation, size_t bytes) const {
    const OpOptions options = {operation.name, std::chrono::seconds(60), device.stream()};
    Status first;
    for (const WorkPtr& work : operation.start(comm, buffer, other, bytes, options)) {
      const Status status = work->Wait();
      if (first.ok()) first = status;
    }
    return first;
  }

  StatusOr<double> MeanSeconds(const CommOperation& operation, size_t bytes) const {
    const int calls = bytes <= (1 << 20) ? 20 : 5;
    for (int i = 0; i < kWarmUp; ++i) WEFT_RETURN_IF_ERROR(Call(operation, bytes));
    WEFT_RETURN_IF_ERROR(
        comm->Barrier({"bench", std::chrono::seconds(60), device.stream()})->Wait());
    device.Synchronize();
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < calls; ++i) WEFT_RETURN_IF_ERROR(Call(operation, bytes));
    device.Synchronize();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / calls;
  }
};

std::vector<size_t> Sizes(size_t largest) {
  std::vector<size_t> sizes;
  for (size_t bytes = kSmallest; bytes < largest; bytes *= 16) sizes.push_back(bytes);
  sizes.push_back(largest);
  return sizes;
}

// One rank's seconds, operations by sizes.
StatusOr<std::vector<double>> RunRank(const CommBenchOptions& options, Communicator* comm,
                                      const ComputeDevice& device) {
  const auto bytes = static_cast<int64_t>(options.largest_bytes);
  const at::Tensor buffer = at::zeros({bytes}, device.Options(at::kByte));
  const at::Tensor other = at::zeros({bytes}, device.Options(at::kByte));
  const BenchRank rank{comm, device, static_cast<char*>(buffer.data_ptr()),
                       static_cast<char*>(other.data_ptr())};
  std::vector<double> seconds;
  for (const CommOperation& operation : kOperations) {
    for (const size_t size : Sizes(options.largest_bytes)) {
      WEFT_ASSIGN_OR_RETURN(const double mean, rank.MeanSeconds(operation, size));
      seconds.push_back(mean);
    }
  }
  return seconds;
}

struct RankPlan {
  TcpOptions tcp;
  MeshBackend backend;
  Listener* listener = nullptr;
};

StatusOr<std::vector<double>> ConnectAndRun(const CommBenchOptions& options, const RankPlan& plan) {
  ComputeDevice device;
  if (options.device == CUDA) {
    WEFT_ASSIGN_OR_RETURN(device, ComputeDevice::Open(plan.backend.gpu));
  }
  const ParallelDims dims{.pp = options.ranks, .dp = 1, .tp = 1};
  WEFT_ASSIGN_OR_RETURN(const MeshCommunicators mesh,
                        ConnectMeshFor(dims, plan.backend, plan.tcp, *plan.listener));
  StatusOr<std::vector<double>> seconds = RunRank(options, mesh.pp.get(), device);
  if (!seconds.ok()) mesh.pp->Abort(seconds.status());
  return seconds;
}

StatusOr<std::vector<RankPlan>> MakePlans(const CommBenchOptions& options,
                                          std::vector<std::unique_ptr<Listener>>* listeners) {
  RankPlan plan;
  plan.tcp.run_token = "bench";
  plan.backend.backend = options.backend;
  plan.backend.device = options.device;
  if (options.backend == NCCL) {
    WEFT_ASSIGN_OR_RETURN(const NcclUniqueId id, MakeNcclUniqueId());
    plan.backend.comm_id.assign(reinterpret_cast<const char*>(id.data()), id.size());
  }
  const int devices = std::max(1, ComputeDevice::Count());
  for (int rank = 0; rank < options.ranks; ++rank) {
    WEFT_ASSIGN_OR_RETURN(listeners->emplace_back(), Listener::Bind({}));
    plan.tcp.endpoints.push_back(listeners->back()->endpoint());
  }
  std::vector<RankPlan> plans;
  for (int rank = 0; rank < options.ranks; ++rank) {
    plan.tcp.rank = rank;
    plan.listener = (*listeners)[static_cast<size_t>(rank)].get();
    plan.backend.gpu = options.device == CUDA || options.backend == NCCL ? rank % devices : -1;
    plans.push_back(plan);
  }
  return plans;
}

std::vector<CommBenchRow> Summarise(const CommBenchOptions& options,
                                    const std::vector<std::vector<double>>& ranks) {
  std::vector<CommBenchRow> rows;
  for (const CommOperation& operation : kOperations) {
    for (const size_t size : Sizes(options.largest_bytes)) {
      CommBenchRow row{operation.name, size, 0, 0};
      for (const std::vector<double>& seconds : ranks)
        row.seconds = std::max(row.seconds, seconds[rows.size()]);
      row.bus_bytes_per_second =
          static_cast<double>(size) / row.seconds * operation.link_share(options.ranks);
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

}  // namespace

StatusOr<std::vector<CommBenchRow>> BenchComm(const CommBenchOptions& options) {
  if (options.ranks < 2) return InvalidArgument("--ranks: at least 2");
  if (options.backend == NCCL && ComputeDevice::Count() < options.ranks) {
    return FailedPrecondition("NCCL needs a GPU for each of " + std::to_string(options.ranks) +
                              " ranks; here are " + std::to_string(ComputeDevice::Count()));
  }
  std::vector<std::unique_ptr<Listener>> listeners;
  WEFT_ASSIGN_OR_RETURN(const std::vector<RankPlan> plans, MakePlans(options, &listeners));
  std::vector<std::vector<double>> seconds(plans.size());
  Mutex mutex;
  Status first;
  const auto run = [&](size_t rank) {
    StatusOr<std::vector<double>> own = Internal("not run");
    try {
      own = ConnectAndRun(options, plans[rank]);
    } catch (const std::exception& error) {
      own = Internal(error.what());
    }
    if (own.ok()) {
      seconds[rank] = *std::move(own);
      return;
    }
    const MutexLock lock(mutex);
    if (first.ok()) first = own.status().WithContext("rank " + std::to_string(rank));
  };
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < plans.size(); ++rank) threads.emplace_back(run, rank);
  for (std::thread& thread : threads) thread.join();
  WEFT_RETURN_IF_ERROR(first);
  return Summarise(options, seconds);
}

}  // namespace weft
