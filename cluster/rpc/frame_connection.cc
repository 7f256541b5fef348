#include "cluster/rpc/frame_connection.h"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <deque>
#include <utility>

#include "cluster/base/logging.h"
#include "cluster/rpc/asio_access.h"
#include "cluster/rpc/frame_codec.h"

namespace weft {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr size_t kMaxQueuedBytes = 256u << 20;

}  // namespace

struct FrameConnection::Impl : std::enable_shared_from_this<FrameConnection::Impl> {
  Impl(asio::io_context& context_in, int fd, std::string peer_in)
      : context(context_in),
        socket(context_in, asio::generic::stream_protocol(AF_UNSPEC, 0), fd),
        peer(std::move(peer_in)) {}

  asio::awaitable<void> ReadLoop();
  asio::awaitable<void> WriteLoop();
  // One frame, or why the connection ends.
  asio::awaitable<StatusOr<control::Frame>> ReadFrame();
  void End(const Status& reason);
  void StartWriting();

  asio::io_context& context;
  asio::generic::stream_protocol::socket socket;
  const std::string peer;
  Callbacks callbacks;
  std::deque<std::string> queue;  // front: being written
  size_t queued_bytes = 0;
  bool writing = false;
  bool ended = false;      // no more reads, writes or callbacks but on_closed
  bool abandoned = false;  // by the destructor: no callback at all
  bool closing = false;    // ends when the queue is empty, with:
  Status closing_reason;
};

asio::awaitable<StatusOr<control::Frame>> FrameConnection::Impl::ReadFrame() {
  char header[kFrameHeaderBytes];
  error_code error;
  auto read_token = asio::redirect_error(asio::use_awaitable, error);
  const auto header_buffer = asio::buffer(header, sizeof header);
  co_await asio::async_read(socket, header_buffer, read_token);
  if (error) co_return Unavailable(peer + " closed the connection (" + error.message() + ")");
  const StatusOr<uint32_t> length = DecodeFrameLength(header);
  if (!length.ok()) co_return length.status().WithContext(peer);
  std::string body(*length, '\0');
  const auto body_buffer = asio::buffer(body);
  co_await asio::async_read(socket, body_buffer, read_token);
  if (error) co_return Unavailable(peer + " closed the connection inside a frame");
  StatusOr<control::Frame> frame = DecodeFrameBody(body);
  if (!frame.ok()) co_return frame.status().WithContext(peer);
  co_return frame;
}

asio::awaitable<void> FrameConnection::Impl::ReadLoop() {
  const auto self = shared_from_this();
  while (!ended) {
    const StatusOr<control::Frame> frame = co_await ReadFrame();
    if (ended) co_return;
    if (!frame.ok()) {
      End(frame.status());
      co_return;
    }
    if (!closing) callbacks.on_frame(*frame);
  }
}

asio::awaitable<void> FrameConnection::Impl::WriteLoop() {
  const auto self = shared_from_this();
  while (!ended && !queue.empty()) {
    error_code error;
    auto token = asio::redirect_error(asio::use_awaitable, error);
    const auto buffer = asio::buffer(queue.front());
    co_await asio::async_write(socket, buffer, token);
    if (ended) break;
    if (error) {
      End(Unavailable(peer + " closed the connection (" + error.message() + ")"));
      break;
    }
    queued_bytes -= queue.front().size();
    queue.pop_front();
  }
  writing = false;
  if (closing && !ended) End(closing_reason);
}

void FrameConnection::Impl::StartWriting() {
  if (writing) return;
  writing = true;
  asio::co_spawn(context, WriteLoop(), asio::detached);
}

void FrameConnection::Impl::End(const Status& reason) {
  if (ended) return;
  ended = true;
  error_code ignored;
  socket.close(ignored);
  if (abandoned || !callbacks.on_closed) return;
  asio::post(context, [self = shared_from_this(), reason] {
    if (!self->abandoned) self->callbacks.on_closed(reason);
  });
}

FrameConnection::FrameConnection(EventLoop* loop, int fd, std::string peer)
    : impl_(std::make_shared<Impl>(loop->impl().context, fd, std::move(peer))) {}

FrameConnection::~FrameConnection() {
  impl_->abandoned = true;
  impl_->End(OkStatus());
}

void FrameConnection::Start(Callbacks callbacks) {
  WEFT_CHECK(callbacks.on_frame && callbacks.on_closed);
  impl_->callbacks = std::move(callbacks);
  asio::co_spawn(impl_->context, impl_->ReadLoop(), asio::detached);
}

void FrameConnection::Send(const control::Frame& frame) {
  if (impl_->ended || impl_->closing) return;
  StatusOr<std::string> bytes = EncodeFrame(frame);
  if (!bytes.ok()) {
    impl_->End(bytes.status());
    return;
  }
  impl_->queued_bytes += bytes->size();
  if (impl_->queued_bytes > kMaxQueuedBytes) {
    impl_->End(Unavailable(impl_->peer + " does not read what it is sent"));
    return;
  }
  impl_->queue.push_back(std::move(*bytes));
  impl_->StartWriting();
}

void FrameConnection::Close(const Status& reason) { impl_->End(reason); }

void FrameConnection::CloseAfterWrites(const Status& reason) {
  if (impl_->ended || impl_->closing) return;
  impl_->closing = true;
  impl_->closing_reason = reason;
  impl_->StartWriting();
}

const std::string& FrameConnection::peer() const { return impl_->peer; }

}  // namespace weft
