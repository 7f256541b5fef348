#include "dataloader/process/loader_service.h"

#include <algorithm>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cluster/base/logging.h"
#include "dataloader/loader.h"
#include "dataloader/process/bottleneck.h"
#include "dataloader/process/shared_ring.h"

namespace weft {
namespace {

constexpr auto kSlice = std::chrono::milliseconds(200);
constexpr auto kReportEvery = std::chrono::seconds(30);

// The micro-batches in the making: enough rows for all threads.
int MicroBatchesAhead(const LoaderOptions& options) {
  const int threads = options.data.loader_threads();
  const int rows = std::max(1, options.batch.micro_batch_size());
  return std::max(2, (2 * threads + rows - 1) / rows);
}

// Serves one region, one request after the other.
class Feeder {
 public:
  Feeder(const LoaderServiceOptions& service, int region)
      : service_(service), region_(region), ring_(service.segment->Region(region)) {}

  void Run() {
    uint64_t served = 0;
    while (!Stopping()) {
      const uint32_t heard = control().loader_bell.Count();
      const uint64_t id = control().request.id;
      if (id == served) {
        control().loader_bell.WaitWhile(heard, Clock::now() + kSlice);
        continue;
      }
      served = id;
      const Status status = Serve(id);
      if (!status.ok()) Fail(id, status);
    }
  }

 private:
  // A ring that is open.
  struct Stream {
    std::unique_ptr<Loader> loader;
    CellLayout layout;
    size_t cells = 0;
    int readers = 1;
    // Micro-batches that the ring has got, and all that were asked for.
    uint64_t produced = 0;
    uint64_t total = 0;
  };

  RingControl& control() const { return ring_.control(); }
  bool Stopping() const { return service_.stopping != nullptr && *service_.stopping; }
  bool Current(uint64_t id) const { return control().request.id == id && !Stopping(); }

  Status Serve(uint64_t id) {
    LoaderRequest request;
    if (!request.ParseFromString(ring_.ReadRequest(id)))
      return Internal("the worker's request does not parse");
    if (request.readers() < 1 || request.readers() > kMaxRingReaders)
      return InvalidArgument("a ring has 1 to " + std::to_string(kMaxRingReaders) + " readers");
    // Of an older loader under the same request, or 0.
    const uint64_t found = RingPosition::Count(control().produced, id);
    if (found == 0) control().produced = RingPosition::Pack(id, 0);
    Stream stream;
    WEFT_RETURN_IF_ERROR(Open(request, found, &stream));
    WEFT_RETURN_IF_ERROR(Answer(id, stream));
    if (found > 0) {
      WEFT_LOG(INFO) << "ring " << region_ << ": goes on behind micro-batch " << found << " of "
                     << stream.total;
    }
    return Feed(id, &stream);
  }

  Status Open(const LoaderRequest& request, uint64_t found, Stream* stream) const {
    LoaderOptions options = ToOptions(request);
    const int64_t cells = options.data.prefetch();
    const int ahead = MicroBatchesAhead(options);
    options.data.set_prefetch(ahead);
    options.skip = static_cast<int64_t>(found);
    WEFT_ASSIGN_OR_RETURN(stream->loader, Loader::Open(options));
    stream->layout = CellLayout(stream->loader->fields(), options.batch.micro_batch_size());
    stream->readers = request.readers();
    stream->produced = found;
    stream->total = static_cast<uint64_t>((options.end_step - options.first_step) *
                                          static_cast<int64_t>(options.slots.size()) *
                                          options.batch.micro_batches());
    // The budget holds the ring and, on the heap, what is in the making and what is being copied.
    const auto fit = static_cast<int64_t>(ring_.data_bytes() / stream->layout.bytes()) - ahead - 1;
    if (fit < 1) {
      const size_t needed =
          (static_cast<size_t>(ahead) + 2) * stream->layout.bytes() + SharedRing::kControlBytes;
      return InvalidArgument(
          "--loader-bytes is too small: a micro-batch takes " +
          std::to_string(stream->layout.bytes()) + " bytes; set it to at least " +
          std::to_string(needed * static_cast<size_t>(service_.segment->regions())));
    }
    stream->cells = static_cast<size_t>(std::min(cells, fit));
    return OkStatus();
  }

  Status Answer(uint64_t id, const Stream& stream) const {
    LoaderReply reply = ToReply(OkStatus());
    reply.set_manifest_hash(stream.loader->manifest_hash());
    reply.set_num_samples(stream.loader->num_samples());
    for (const FieldSpec& spec : stream.layout.fields()) {
      LoaderField* field = reply.add_fields();
      field->set_name(spec.name);
      field->set_type(static_cast<int>(spec.type));
      for (const int64_t dim : spec.dims) field->add_dims(dim);
    }
    reply.set_cells(static_cast<int64_t>(stream.cells));
    reply.set_cell_bytes(static_cast<int64_t>(stream.layout.bytes()));
    const std::string text = reply.SerializeAsString();
    if (control().reply.id == id) {
      if (ring_.ReadReply(id) == text) return OkStatus();
      return Unavailable(
          "data.train_shards changed while the run reads them: bring the shards back");
    }
    WEFT_RETURN_IF_ERROR(ring_.WriteReply(id, text));
    control().worker_bell.Ring();
    return OkStatus();
  }

  Status Feed(uint64_t id, Stream* stream) {
    interval_ = RingInterval();
    interval_start_ = Clock::now();
    reported_ = stream->loader->times();
    while (stream->produced < stream->total && Current(id)) {
      if (!AwaitRoom(id, *stream)) break;
      WEFT_ASSIGN_OR_RETURN(MicroBatch batch, stream->loader->Next());
      const CellHeader header = {stream->produced,
                                 batch.step,
                                 batch.slot,
                                 batch.micro_batch,
                                 stream->loader->num_bad_samples(),
                                 stream->loader->times()};
      stream->layout.Write(batch, header,
                           ring_.Cell(stream->produced, stream->cells, stream->layout.bytes()));
      stream->loader->Recycle(std::move(batch));
      uint64_t expected = RingPosition::Pack(id, stream->produced);
      ++stream->produced;
      if (!control().produced.compare_exchange_strong(expected,
                                                      RingPosition::Pack(id, stream->produced)))
        return Internal("two loaders feed one ring");
      control().worker_bell.Ring();
      service_.segment->front().progress.fetch_add(1);
      interval_.micro_batches += 1;
      if (Clock::now() - interval_start_ >= kReportEvery) Report(*stream);
    }
    Report(*stream);
    return OkStatus();
  }

  // False: the request is not wanted any more.
  bool AwaitRoom(uint64_t id, const Stream& stream) {
    const TimePoint start = Clock::now();
    bool waited = false;
    while (Current(id)) {
      const uint32_t heard = control().loader_bell.Count();
      uint64_t slowest = stream.produced;
      for (int reader = 0; reader < stream.readers; ++reader) {
        const auto& consumed = control().consumed[static_cast<size_t>(reader)];
        slowest = std::min(slowest, RingPosition::Count(consumed.position, id));
      }
      if (stream.produced - slowest < stream.cells) {
        interval_.full_s += ToSeconds(Clock::now() - start);
        return true;
      }
      if (!std::exchange(waited, true)) service_.segment->front().progress.fetch_add(1);
      control().loader_bell.WaitWhile(heard, Clock::now() + kSlice);
    }
    return false;
  }

  void Report(const Stream& stream) {
    const TimePoint now = Clock::now();
    const LoaderTimes times = stream.loader->times();
    interval_.seconds = ToSeconds(now - interval_start_);
    interval_.threads = {times.decode_s - reported_.decode_s, times.read_s - reported_.read_s,
                         times.core_wait_s - reported_.core_wait_s};
    WEFT_LOG(INFO) << "ring " << region_ << ", micro-batch " << stream.produced << " of "
                   << stream.total << ": " << Describe(interval_);
    reported_ = times;
    interval_ = RingInterval();
    interval_start_ = now;
  }

  void Fail(uint64_t id, const Status& status) const {
    WEFT_LOG(ERROR) << "ring " << region_ << ": " << status;
    const std::string text = ToReply(status).SerializeAsString();
    const bool answered = control().reply.id == id;
    const Status written = answered ? ring_.WriteFailure(id, text) : ring_.WriteReply(id, text);
    if (!written.ok()) WEFT_LOG(ERROR) << written;
    control().worker_bell.Ring();
  }

  const LoaderServiceOptions service_;
  const int region_;
  const SharedRing ring_;
  // Since the last report.
  RingInterval interval_;
  TimePoint interval_start_{};
  LoaderTimes reported_;
};

}  // namespace

Status RunLoaderService(const LoaderServiceOptions& options) {
  LoaderSegment* const segment = options.segment.get();
  if (segment->region_bytes() <= SharedRing::kControlBytes)
    return InvalidArgument(
        "--loader-bytes leaves no room for a ring; set it to at least " +
        std::to_string(2 * SharedRing::kControlBytes * static_cast<size_t>(segment->regions())));
  std::vector<std::thread> feeders;
  for (int region = 0; region < segment->regions(); ++region)
    feeders.emplace_back([&options, region] { Feeder(options, region).Run(); });
  while (options.stopping == nullptr || !*options.stopping) {
    segment->front().heartbeat.fetch_add(1);
    std::this_thread::sleep_for(kSlice);
  }
  for (std::thread& feeder : feeders) feeder.join();
  return OkStatus();
}

}  // namespace weft
