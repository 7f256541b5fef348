#include "dataloader/process/shared_ring.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "cluster/base/logging.h"

namespace weft {
namespace {

constexpr size_t kRequestAt = size_t{4} << 10;
constexpr size_t kReplyAt = size_t{132} << 10;
constexpr size_t kFailureAt = size_t{196} << 10;
static_assert(sizeof(RingControl) <= kRequestAt);

size_t Aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

Status WriteText(std::span<std::byte> room, uint64_t id, std::string_view text, RingText* header) {
  if (text.size() > room.size()) {
    return ResourceExhausted("a message of " + std::to_string(text.size()) +
                             " bytes to or from the loader; it may have " +
                             std::to_string(room.size()) +
                             ": name the shards by a pattern, or train with --loader threads");
  }
  std::memcpy(room.data(), text.data(), text.size());
  header->bytes = text.size();
  header->id.store(id);
  return OkStatus();
}

std::string ReadText(std::span<const std::byte> room, uint64_t id, const RingText& header) {
  if (header.id.load() != id) return "";
  const uint64_t bytes = header.bytes;
  if (bytes > room.size()) return "";
  return {reinterpret_cast<const char*>(room.data()), bytes};
}

}  // namespace

CellLayout::CellLayout(std::vector<FieldSpec> fields, int64_t samples)
    : fields_(std::move(fields)), samples_(static_cast<size_t>(samples)) {
  bytes_ = Aligned(sizeof(CellHeader)) + Aligned(samples_ * 8) + Aligned(samples_ * 4);
  for (const FieldSpec& field : fields_) bytes_ += Aligned(samples_ * field.bytes_per_row());
}

void CellLayout::Write(const MicroBatch& batch, const CellHeader& header, std::byte* cell) const {
  WEFT_CHECK_EQ(batch.fields.size(), fields_.size());
  const auto put = [&cell](const void* from, size_t bytes) {
    std::memcpy(cell, from, bytes);
    cell += Aligned(bytes);
  };
  put(&header, sizeof header);
  put(batch.sample_ids.data(), samples_ * 8);
  put(batch.targets.data(), samples_ * 4);
  for (const Field& field : batch.fields) put(field.bytes.data(), field.bytes.size());
}

CellHeader CellLayout::Read(const std::byte* cell, MicroBatch* batch) const {
  const auto get = [&cell](void* to, size_t bytes) {
    std::memcpy(to, cell, bytes);
    cell += Aligned(bytes);
  };
  CellHeader header;
  get(&header, sizeof header);
  batch->step = header.step;
  batch->slot = header.slot;
  batch->micro_batch = header.micro_batch;
  batch->sample_ids.resize(samples_);
  batch->targets.resize(samples_);
  get(batch->sample_ids.data(), samples_ * 8);
  get(batch->targets.data(), samples_ * 4);
  batch->fields.resize(fields_.size());
  for (size_t i = 0; i < fields_.size(); ++i) {
    Field& field = batch->fields[i];
    if (field.spec.name != fields_[i].name) field.spec = fields_[i];
    field.bytes.resize(samples_ * fields_[i].bytes_per_row());
    get(field.bytes.data(), field.bytes.size());
  }
  return header;
}

SharedRing::SharedRing(std::span<std::byte> region) : region_(region) {
  WEFT_CHECK_GT(region.size(), kControlBytes);
}

Status SharedRing::WriteRequest(uint64_t id, std::string_view text) const {
  return WriteText(region_.subspan(kRequestAt, kReplyAt - kRequestAt), id, text,
                   &control().request);
}
Status SharedRing::WriteReply(uint64_t id, std::string_view text) const {
  return WriteText(region_.subspan(kReplyAt, kFailureAt - kReplyAt), id, text, &control().reply);
}
Status SharedRing::WriteFailure(uint64_t id, std::string_view text) const {
  return WriteText(region_.subspan(kFailureAt, kControlBytes - kFailureAt), id, text,
                   &control().failure);
}
std::string SharedRing::ReadRequest(uint64_t id) const {
  return ReadText(region_.subspan(kRequestAt, kReplyAt - kRequestAt), id, control().request);
}
std::string SharedRing::ReadReply(uint64_t id) const {
  return ReadText(region_.subspan(kReplyAt, kFailureAt - kReplyAt), id, control().reply);
}
std::string SharedRing::ReadFailure(uint64_t id) const {
  return ReadText(region_.subspan(kFailureAt, kControlBytes - kFailureAt), id, control().failure);
}

LoaderRequest ToRequest(const LoaderOptions& options) {
  LoaderRequest request;
  request.set_family(static_cast<int>(options.family));
  *request.mutable_data() = options.data;
  *request.mutable_batch() = options.batch;
  request.set_seed(options.seed);
  request.set_image_size(options.image_size);
  request.set_context_length(options.context_length);
  request.set_patches(options.patches);
  request.set_pictures(options.pictures);
  request.set_vocab_size(options.vocab_size);
  for (const int slot : options.slots) request.add_slots(slot);
  for (const int slot : options.node_slots) request.add_node_slots(slot);
  request.set_first_step(options.first_step);
  request.set_end_step(options.end_step);
  request.set_all_fields(!options.fields.has_value());
  if (options.fields) {
    for (const std::string& field : *options.fields) request.add_fields(field);
  }
  return request;
}

LoaderOptions ToOptions(const LoaderRequest& request) {
  LoaderOptions options;
  options.family = static_cast<SampleFamily>(request.family());
  options.data = request.data();
  options.batch = request.batch();
  options.seed = request.seed();
  options.image_size = request.image_size();
  options.context_length = request.context_length();
  options.patches = request.patches();
  options.pictures = request.pictures();
  options.vocab_size = request.vocab_size();
  options.slots.assign(request.slots().begin(), request.slots().end());
  options.node_slots.assign(request.node_slots().begin(), request.node_slots().end());
  options.first_step = request.first_step();
  options.end_step = request.end_step();
  if (!request.all_fields())
    options.fields.emplace(request.fields().begin(), request.fields().end());
  return options;
}

LoaderReply ToReply(const Status& status) {
  LoaderReply reply;
  reply.set_code(static_cast<int>(status.code()));
  reply.set_message(status.message().substr(0, 8000));
  return reply;
}

Status ToStatus(const LoaderReply& reply) {
  if (reply.code() == 0) return OkStatus();
  return Status(static_cast<StatusCode>(reply.code()), reply.message());
}

}  // namespace weft
