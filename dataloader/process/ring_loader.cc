#include "dataloader/process/ring_loader.h"

#include <functional>
#include <string>
#include <utility>

#include "dataloader/process/shared_ring.h"

namespace weft {
namespace {

constexpr auto kSlice = std::chrono::milliseconds(200);
// Of a field, a row.
constexpr int64_t kMaxElements = int64_t{1} << 30;

class RingLoader : public Loader {
 public:
  RingLoader(LoaderSeat seat, const LoaderOptions& options)
      : seat_(std::move(seat)),
        options_(options),
        ring_(seat_.segment->Region(seat_.region)),
        micro_batches_(options.batch.micro_batches()),
        per_step_(static_cast<int64_t>(options.slots.size()) * micro_batches_),
        total_((options.end_step - options.first_step) * per_step_) {}

  Status Open() {
    WEFT_RETURN_IF_ERROR(Ask());
    WEFT_RETURN_IF_ERROR(Await("its answer", [this] { return control().reply.id == seat_.id; }));
    LoaderReply reply;
    if (!reply.ParseFromString(ring_.ReadReply(seat_.id)))
      return Internal("the loader's answer does not parse");
    WEFT_RETURN_IF_ERROR(ToStatus(reply));
    return Accept(reply);
  }

  StatusOr<MicroBatch> Next() override {
    if (next_ >= total_) {
      return FailedPrecondition("the loader has given all of its " + std::to_string(total_) +
                                " micro-batches");
    }
    WEFT_RETURN_IF_ERROR(Await("micro-batch " + std::to_string(next_), [this] {
      return RingPosition::Count(control().produced, seat_.id) > static_cast<uint64_t>(next_);
    }));
    MicroBatch batch = std::move(spare_);
    const CellHeader header =
        layout_.Read(ring_.Cell(static_cast<uint64_t>(next_), cells_, layout_.bytes()), &batch);
    WEFT_RETURN_IF_ERROR(CheckHeader(header));
    bad_samples_ = header.bad_samples;
    times_ = header.times;
    ++next_;
    control().consumed[static_cast<size_t>(seat_.reader)].position =
        RingPosition::Pack(seat_.id, static_cast<uint64_t>(next_));
    control().loader_bell.Ring();
    return batch;
  }

  void Recycle(MicroBatch batch) override { spare_ = std::move(batch); }
  const std::string& manifest_hash() const override { return manifest_hash_; }
  int64_t num_samples() const override { return num_samples_; }
  int64_t num_bad_samples() const override { return bad_samples_; }
  LoaderTimes times() const override { return times_; }

 private:
  RingControl& control() const { return ring_.control(); }

  Status Ask() {
    LoaderRequest request = ToRequest(options_);
    request.set_readers(seat_.readers);
    const std::string text = request.SerializeAsString();
    if (seat_.reader == 0) {
      WEFT_RETURN_IF_ERROR(ring_.WriteRequest(seat_.id, text));
      control().loader_bell.Ring();
      control().worker_bell.Ring();
      return OkStatus();
    }
    WEFT_RETURN_IF_ERROR(Await("the request of the worker that shares its ring",
                               [this] { return control().request.id == seat_.id; }));
    if (ring_.ReadRequest(seat_.id) == text) return OkStatus();
    return Internal("two workers share a ring of the loader but ask for different things");
  }

  // What the loader says is checked as if a stranger said it.
  Status Accept(const LoaderReply& reply) {
    std::vector<FieldSpec> fields;
    for (const LoaderField& field : reply.fields()) {
      fields.push_back({field.name(),
                        static_cast<FieldType>(field.type()),
                        {field.dims().begin(), field.dims().end()}});
      int64_t left = kMaxElements;
      for (const int64_t dim : field.dims()) {
        if (dim < 1 || dim > left)
          return Internal("the loader's field " + field.name() + " has no size");
        left /= dim;
      }
    }
    layout_ = CellLayout(std::move(fields), options_.batch.micro_batch_size());
    const auto cell_bytes = static_cast<uint64_t>(reply.cell_bytes());
    cells_ = static_cast<size_t>(reply.cells());
    if (layout_.bytes() != cell_bytes || cells_ < 1 || cells_ > ring_.data_bytes() / cell_bytes)
      return Internal("the loader's cells do not fit its ring");
    manifest_hash_ = reply.manifest_hash();
    num_samples_ = reply.num_samples();
    return OkStatus();
  }

  Status CheckHeader(const CellHeader& header) const {
    const int64_t step = options_.first_step + next_ / per_step_;
    const int slot = options_.slots[static_cast<size_t>(next_ % per_step_ / micro_batches_)];
    if (header.sequence == static_cast<uint64_t>(next_) && header.step == step &&
        header.slot == slot && header.micro_batch == next_ % micro_batches_)
      return OkStatus();
    return Internal("the loader's ring holds step " + std::to_string(header.step) + ", slot " +
                    std::to_string(header.slot) + " where step " + std::to_string(step) +
                    ", slot " + std::to_string(slot) + " belongs");
  }

  // Until `ready`, or what says that it will not be.
  Status Await(const std::string& what, const std::function<bool()>& ready) const {
    const LoaderFront& front = seat_.segment->front();
    const TimePoint start = Clock::now();
    TimePoint last_alive = start;
    uint64_t heartbeat = front.heartbeat;
    while (true) {
      const uint32_t heard = control().worker_bell.Count();
      if (ready()) return OkStatus();
      LoaderReply failure;
      // What was produced before the failure comes first.
      if (control().failure.id == seat_.id && !ready() &&
          failure.ParseFromString(ring_.ReadFailure(seat_.id)) && failure.code() != 0)
        return ToStatus(failure);
      if (front.given_up != 0) return Unavailable(front.reason);
      const TimePoint now = Clock::now();
      if (front.heartbeat != heartbeat) last_alive = now;
      heartbeat = front.heartbeat;
      if (now - last_alive > seat_.dead_after || now - start > seat_.slow_after) {
        return Unavailable("the loader process did not give " + what + " within " +
                           std::to_string(static_cast<int>(ToSeconds(now - start))) +
                           " s; loader.log beside this log says what it does");
      }
      control().worker_bell.WaitWhile(heard, now + kSlice);
    }
  }

  const LoaderSeat seat_;
  const LoaderOptions options_;
  const SharedRing ring_;
  const int64_t micro_batches_;
  const int64_t per_step_;
  const int64_t total_;
  CellLayout layout_;
  size_t cells_ = 0;
  std::string manifest_hash_;
  int64_t num_samples_ = 0;
  int64_t bad_samples_ = 0;
  LoaderTimes times_;
  int64_t next_ = 0;
  MicroBatch spare_;
};

}  // namespace

StatusOr<std::unique_ptr<Loader>> OpenRingLoader(const LoaderSeat& seat,
                                                 const LoaderOptions& options) {
  if (seat.readers < 1 || seat.readers > kMaxRingReaders)
    return InvalidArgument("a ring of the loader has 1 to " + std::to_string(kMaxRingReaders) +
                           " readers");
  auto loader = std::make_unique<RingLoader>(seat, options);
  WEFT_RETURN_IF_ERROR(loader->Open());
  return std::unique_ptr<Loader>(std::move(loader));
}

}  // namespace weft
