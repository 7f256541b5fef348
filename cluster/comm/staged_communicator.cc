#include "cluster/comm/staged_communicator.h"

#include <utility>
#include <vector>

#include "cluster/base/logging.h"
#include "cluster/base/text.h"
#include "cluster/comm/nccl_calls.h"
#include "cluster/comm/pinned_pool.h"

namespace weft {
namespace {

using nccl::Event;
using nccl::FromCuda;

// Between a place of a pinned buffer and device memory.
struct Copy {
  size_t at = 0;
  const void* device = nullptr;
  size_t bytes = 0;
};
using Copies = std::vector<Copy>;

// An operation that the backend has, and what comes before and after it.
struct Staging {
  std::unique_ptr<PinnedBuffer> buffer;
  Copies back;
  cudaStream_t stream = nullptr;
  // The caller is the host, which waits for the copies, too.
  bool host_waits = false;
  bool collective = false;
  WorkPtr host;
  bool finished = false;
  Status status;
};
using StagingPtr = std::shared_ptr<Staging>;

Status CopyBack(const Staging& staging) {
  for (const Copy& copy : staging.back) {
    if (copy.bytes == 0) continue;
    WEFT_RETURN_IF_ERROR(
        FromCuda(cudaMemcpyAsync(const_cast<void*>(copy.device), staging.buffer->data() + copy.at,
                                 copy.bytes, cudaMemcpyDefault, staging.stream),
                 "copying to the GPU"));
  }
  WEFT_ASSIGN_OR_RETURN(const auto copied, Event::Record(staging.stream));
  staging.buffer->SetLastUse(copied);
  return staging.host_waits ? copied->Synchronize() : OkStatus();
}

bool Overlap(const Copies& a, const Copies& b) {
  for (const Copy& x : a) {
    for (const Copy& y : b) {
      const auto* begin_x = static_cast<const char*>(x.device);
      const auto* begin_y = static_cast<const char*>(y.device);
      if (begin_x < begin_y + y.bytes && begin_y < begin_x + x.bytes) return true;
    }
  }
  return false;
}

// What is not finished, in the order of the calls. Shared by the communicator and its Works.
class Stagings {
 public:
  StatusOr<std::unique_ptr<PinnedBuffer>> Take(size_t bytes) { return pool_.Take(bytes); }
  void Keep(std::unique_ptr<PinnedBuffer> buffer) { pool_.Keep(std::move(buffer)); }
  void Add(StagingPtr staging) { pending_.push_back(std::move(staging)); }
  // Waits for it. All before a collective are done when it is, so their results arrive as well.
  Status Wait(const StagingPtr& staging);
  // What is about to be sent may be what one of these brings.
  void FinishWriters(const Copies& out);
  // Nobody will wait: what it brings is not for memory that may be somebody else's.
  void Drop(const StagingPtr& staging);

 private:
  void Finish(Staging* staging);
  void Forget();

  PinnedPool pool_;
  std::vector<StagingPtr> pending_;
};

void Stagings::Finish(Staging* staging) {
  staging->status = staging->host->Wait();
  if (staging->status.ok()) staging->status = CopyBack(*staging);
  pool_.Give(std::move(staging->buffer));
  staging->finished = true;
}

void Stagings::Forget() {
  std::erase_if(pending_, [](const StagingPtr& staging) { return staging->finished; });
}

Status Stagings::Wait(const StagingPtr& staging) {
  for (const StagingPtr& earlier : pending_) {
    if (earlier == staging || staging->finished) break;
    if (staging->collective) Finish(earlier.get());
  }
  if (!staging->finished) Finish(staging.get());
  Forget();
  return staging->status;
}

void Stagings::FinishWriters(const Copies& out) {
  for (const StagingPtr& staging : pending_) {
    if (Overlap(staging->back, out)) Finish(staging.get());
  }
  Forget();
}

void Stagings::Drop(const StagingPtr& staging) {
  if (staging->finished) return;
  staging->back.clear();
  if (staging->host->Done()) static_cast<void>(Wait(staging));
}

class StagedWork : public Work {
 public:
  StagedWork(StagingPtr staging, std::shared_ptr<Stagings> all)
      : staging_(std::move(staging)), all_(std::move(all)) {}
  ~StagedWork() override { all_->Drop(staging_); }

  Status Wait() override { return all_->Wait(staging_); }
  bool Done() override { return staging_->host->Done(); }
  const std::string& name() const override { return staging_->host->name(); }
  uint64_t sequence() const override { return staging_->host->sequence(); }

 private:
  const StagingPtr staging_;
  const std::shared_ptr<Stagings> all_;
};

// An operation that never came to the backend.
class FailedWork : public Work {
 public:
  FailedWork(std::string name, Status status)
      : name_(std::move(name)), status_(std::move(status)) {}
  Status Wait() override { return status_; }
  bool Done() override { return true; }
  const std::string& name() const override { return name_; }
  uint64_t sequence() const override { return 0; }

 private:
  const std::string name_;
  const Status status_;
};

class StagedCommunicator : public Communicator {
 public:
  StagedCommunicator(std::unique_ptr<Communicator> host, int device,
                     std::unique_ptr<nccl::Stream> stream)
      : device_(device), stream_(std::move(stream)), host_(std::move(host)) {}

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }

  WorkPtr AllReduce(void* data, size_t count, DType dtype, ReduceOp op,
                    const OpOptions& options) override {
    const size_t bytes = count * DTypeSize(dtype);
    return Stage(bytes, {{0, data, bytes}}, {{0, data, bytes}}, options,
                 [=, this](char* at, const OpOptions& on_host) {
                   return host_->AllReduce(at, count, dtype, op, on_host);
                 });
  }
  WorkPtr AllGather(const void* send, void* recv, size_t count, DType dtype,
                    const OpOptions& options) override {
    const size_t bytes = count * DTypeSize(dtype);
    const size_t all = bytes * static_cast<size_t>(size());
    const size_t own = bytes * static_cast<size_t>(rank());
    return Stage(all, {{own, send, bytes}}, {{0, recv, all}}, options,
                 [=, this](char* at, const OpOptions& on_host) {
                   return host_->AllGather(at + own, at, count, dtype, on_host);
                 });
  }
  WorkPtr ReduceScatter(const void* send, void* recv, size_t count, DType dtype, ReduceOp op,
                        const OpOptions& options) override {
    const size_t bytes = count * DTypeSize(dtype);
    const size_t all = bytes * static_cast<size_t>(size());
    return Stage(all + bytes, {{0, send, all}}, {{all, recv, bytes}}, options,
                 [=, this](char* at, const OpOptions& on_host) {
                   return host_->ReduceScatter(at, at + all, count, dtype, op, on_host);
                 });
  }
  WorkPtr Broadcast(void* data, size_t bytes, int root, const OpOptions& options) override {
    const Copies whole = {{0, data, bytes}};
    const bool sends = rank() == root;
    return Stage(bytes, sends ? whole : Copies(), sends ? Copies() : whole, options,
                 [=, this](char* at, const OpOptions& on_host) {
                   return host_->Broadcast(at, bytes, root, on_host);
                 });
  }
  WorkPtr AllToAll(const std::vector<SendBuffer>& send, const std::vector<RecvBuffer>& recv,
                   const OpOptions& options) override;
  WorkPtr Send(const void* data, size_t bytes, int peer, const OpOptions& options) override {
    return Stage(
        bytes, {{0, data, bytes}}, {}, options,
        [=, this](char* at, const OpOptions& on_host) {
          return host_->Send(at, bytes, peer, on_host);
        },
        /*collective=*/false);
  }
  WorkPtr Recv(void* data, size_t bytes, int peer, const OpOptions& options) override {
    return Stage(
        bytes, {}, {{0, data, bytes}}, options,
        [=, this](char* at, const OpOptions& on_host) {
          return host_->Recv(at, bytes, peer, on_host);
        },
        /*collective=*/false);
  }
  WorkPtr Barrier(const OpOptions& options) override {
    // As a copy of nothing: behind what is on the stream.
    return Stage(0, {{}}, {}, options,
                 [this](char*, const OpOptions& on_host) { return host_->Barrier(on_host); });
  }

  void Abort(const Status& reason) override { host_->Abort(reason); }
  Status failure() const override { return host_->failure(); }
  std::string CurrentOperation() const override { return host_->CurrentOperation(); }

 private:
  using Call = std::function<WorkPtr(char*, const OpOptions&)>;

  // Copies `out` to pinned memory of `bytes`, calls the backend on it, and will copy `back`.
  WorkPtr Stage(size_t bytes, const Copies& out, Copies back, const OpOptions& options,
                const Call& call, bool collective = true);
  StatusOr<StagingPtr> CopyOut(size_t bytes, const Copies& out, const OpOptions& options);

  const int device_;
  // For a caller that is the host.
  const std::unique_ptr<nccl::Stream> stream_;
  const std::shared_ptr<Stagings> stagings_ = std::make_shared<Stagings>();
  // Goes first: it uses their memory.
  const std::unique_ptr<Communicator> host_;
};

WorkPtr StagedCommunicator::AllToAll(const std::vector<SendBuffer>& send,
                                     const std::vector<RecvBuffer>& recv,
                                     const OpOptions& options) {
  Copies out;
  Copies back;
  size_t bytes = 0;
  for (const SendBuffer& buffer : send) {
    out.push_back({bytes, buffer.data, buffer.bytes});
    bytes += buffer.bytes;
  }
  for (const RecvBuffer& buffer : recv) {
    back.push_back({bytes, buffer.data, buffer.bytes});
    bytes += buffer.bytes;
  }
  return Stage(bytes, out, back, options, [&](char* at, const OpOptions& on_host) {
    std::vector<SendBuffer> send_from;
    std::vector<RecvBuffer> recv_to;
    for (const Copy& copy : out) send_from.push_back({at + copy.at, copy.bytes});
    for (const Copy& copy : back) recv_to.push_back({at + copy.at, copy.bytes});
    return host_->AllToAll(send_from, recv_to, on_host);
  });
}

WorkPtr StagedCommunicator::Stage(size_t bytes, const Copies& out, Copies back,
                                  const OpOptions& options, const Call& call, bool collective) {
  stagings_->FinishWriters(out);
  const StatusOr<StagingPtr> staging = CopyOut(bytes, out, options);
  if (!staging.ok()) {
    host_->Abort(staging.status().WithContext(options.name));
    return std::make_unique<FailedWork>(options.name, host_->failure());
  }
  (*staging)->back = std::move(back);
  (*staging)->collective = collective;
  OpOptions on_host = options;
  on_host.stream = nullptr;
  (*staging)->host = call((*staging)->buffer->data(), on_host);
  stagings_->Add(*staging);
  return std::make_unique<StagedWork>(*staging, stagings_);
}

StatusOr<StagingPtr> StagedCommunicator::CopyOut(size_t bytes, const Copies& out,
                                                 const OpOptions& options) {
  WEFT_RETURN_IF_ERROR(FromCuda(cudaSetDevice(device_), "choosing the device"));
  auto staging = std::make_shared<Staging>();
  staging->host_waits = options.stream == nullptr;
  staging->stream =
      staging->host_waits ? stream_->get() : static_cast<cudaStream_t>(options.stream);
  WEFT_ASSIGN_OR_RETURN(staging->buffer, stagings_->Take(bytes));
  if (out.empty()) return staging;
  for (const Copy& copy : out) {
    if (copy.bytes == 0) continue;
    WEFT_RETURN_IF_ERROR(FromCuda(cudaMemcpyAsync(staging->buffer->data() + copy.at, copy.device,
                                                  copy.bytes, cudaMemcpyDefault, staging->stream),
                                  "copying from the GPU"));
  }
  WEFT_ASSIGN_OR_RETURN(const auto copied, Event::Record(staging->stream));
  staging->buffer->SetLastUse(copied);
  const TimePoint deadline = Clock::now() + options.timeout;
  nccl::Pause pause;
  while (copied->Query() == cudaErrorNotReady) {
    if (Clock::now() >= deadline) {
      // The copy may still come: the buffer is not for others.
      stagings_->Keep(std::move(staging->buffer));
      return DeadlineExceeded("the GPU's stream did not come to the operation within " +
                              HumanSeconds(ToSeconds(options.timeout)));
    }
    pause.Sleep();
  }
  WEFT_RETURN_IF_ERROR(copied->Synchronize());
  return staging;
}

}  // namespace

StatusOr<std::unique_ptr<Communicator>> StageThroughHost(std::unique_ptr<Communicator> host,
                                                         int device) {
  WEFT_RETURN_IF_ERROR(FromCuda(cudaSetDevice(device), "choosing the device"));
  WEFT_ASSIGN_OR_RETURN(auto stream, nccl::Stream::Create());
  return std::unique_ptr<Communicator>(
      std::make_unique<StagedCommunicator>(std::move(host), device, std::move(stream)));
}

}  // namespace weft
