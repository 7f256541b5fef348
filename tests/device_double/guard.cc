#include "tests/device_double/guard.h"

#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <array>
#include <map>
#include <utility>

#include "cluster/base/logging.h"
#include "cluster/base/mutex.h"
#include "tests/device_double/memory.h"

namespace weft::testing {
namespace {

constexpr c10::DeviceType kType = c10::DeviceType::PrivateUse1;
constexpr int kDevices = 8;
// Ids of streams: LibTorch's default, and a pool of one of each priority.
constexpr c10::StreamId kDefault = 0;
constexpr c10::StreamId kPool = 1;
constexpr c10::StreamId kHighPool = 2;

void Must(cudaError_t error) { WEFT_CHECK(error == cudaSuccess) << cudaGetErrorString(error); }

struct Streams {
  Mutex mutex;
  std::map<std::pair<int, c10::StreamId>, cudaStream_t> made WEFT_GUARDED_BY(mutex);
};
// Of the process, as LibTorch's pools are; never destroyed, as their threads may run until the end.
Streams& AllStreams() {
  static Streams& streams = *new Streams;
  return streams;
}

thread_local std::array<c10::StreamId, kDevices> current_streams = {};

// The runtime makes streams and events on its current device.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    Must(cudaGetDevice(&before_));
    Must(cudaSetDevice(device));
  }
  ~OnDevice() { Must(cudaSetDevice(before_)); }

 private:
  int before_ = 0;
};

class Guard final : public c10::impl::DeviceGuardImplInterface {
 public:
  c10::DeviceType type() const override { return kType; }
  c10::Device exchangeDevice(c10::Device device) const override {
    const c10::Device before = getDevice();
    setDevice(device);
    return before;
  }
  c10::Device getDevice() const override { return {kType, CurrentDevice()}; }
  void setDevice(c10::Device device) const override { Must(cudaSetDevice(device.index())); }
  void uncheckedSetDevice(c10::Device device) const noexcept override { setDevice(device); }
  c10::DeviceIndex deviceCount() const noexcept override { return kDevices; }

  c10::Stream getStream(c10::Device device) const override {
    return CurrentStream(device.has_index() ? device.index() : CurrentDevice());
  }
  c10::Stream getDefaultStream(c10::Device device) const override {
    return c10::Stream(c10::Stream::UNSAFE, device, kDefault);
  }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool high) const override {
    return c10::Stream(c10::Stream::UNSAFE, device, high ? kHighPool : kPool);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    const c10::Stream before = CurrentStream(stream.device_index());
    current_streams[static_cast<size_t>(stream.device_index())] = stream.id();
    return before;
  }
  void* getStreamNativeHandle(const c10::Stream stream) const override { return StreamOf(stream); }
  bool queryStream(const c10::Stream& stream) const override {
    return cudaStreamQuery(StreamOf(stream)) == cudaSuccess;
  }
  void synchronizeStream(const c10::Stream& stream) const override {
    Must(cudaStreamSynchronize(StreamOf(stream)));
  }

  void record(void** event, const c10::Stream& stream, c10::DeviceIndex /*index*/,
              c10::EventFlag /*flag*/) const override {
    const OnDevice here(stream.device_index());
    if (*event == nullptr) {
      cudaEvent_t made = nullptr;
      Must(cudaEventCreateWithFlags(&made, cudaEventDisableTiming));
      *event = made;
    }
    Must(cudaEventRecord(static_cast<cudaEvent_t>(*event), StreamOf(stream)));
  }
  void block(void* event, const c10::Stream& stream) const override {
    if (event != nullptr)
      Must(cudaStreamWaitEvent(StreamOf(stream), static_cast<cudaEvent_t>(event), 0));
  }
  bool queryEvent(void* event) const override {
    return event == nullptr || cudaEventQuery(static_cast<cudaEvent_t>(event)) == cudaSuccess;
  }
  void synchronizeEvent(void* event) const override {
    if (event != nullptr) Must(cudaEventSynchronize(static_cast<cudaEvent_t>(event)));
  }
  void destroyEvent(void* event, c10::DeviceIndex /*index*/) const noexcept override {
    if (event != nullptr) Must(cudaEventDestroy(static_cast<cudaEvent_t>(event)));
  }
  void recordDataPtrOnStream(const c10::DataPtr& data, const c10::Stream& stream) const override {
    RecordOnStream(data, StreamOf(stream));
  }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

}  // namespace

cudaStream_t StreamOf(const c10::Stream& stream) {
  Streams& streams = AllStreams();
  const MutexLock lock(streams.mutex);
  cudaStream_t& made = streams.made[{stream.device_index(), stream.id()}];
  if (made == nullptr) {
    const OnDevice here(stream.device_index());
    Must(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking));
  }
  return made;
}

c10::Stream CurrentStream(c10::DeviceIndex device) {
  return c10::Stream(c10::Stream::UNSAFE, c10::Device(kType, device),
                     current_streams[static_cast<size_t>(device)]);
}

c10::DeviceIndex CurrentDevice() {
  int device = 0;
  Must(cudaGetDevice(&device));
  return static_cast<c10::DeviceIndex>(device);
}

}  // namespace weft::testing
