#include "cluster/rpc/frame_server.h"

#include <fcntl.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <sstream>
#include <utility>

#include "cluster/base/logging.h"
#include "cluster/rpc/asio_access.h"

namespace weft {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

// Out of descriptors: the next accept would fail at once, so wait.
constexpr auto kRetryDelay = std::chrono::milliseconds(200);

tcp Family(int fd) {
  int family = AF_INET;
  socklen_t size = sizeof family;
  ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size);
  return family == AF_INET6 ? tcp::v6() : tcp::v4();
}

}  // namespace

struct FrameServer::Impl : std::enable_shared_from_this<FrameServer::Impl> {
  Impl(EventLoop* loop_in, const ControlListener& listener,
       std::function<void(std::unique_ptr<FrameConnection>)> on_accept_in)
      : loop(loop_in),
        acceptor(loop_in->impl().context, Family(listener.fd), listener.fd),
        retry(loop_in->impl().context),
        endpoint(listener.endpoint),
        on_accept(std::move(on_accept_in)) {}

  void Accept();
  void Adopt(tcp::socket socket);

  EventLoop* loop;
  tcp::acceptor acceptor;
  asio::steady_timer retry;
  Endpoint endpoint;
  std::function<void(std::unique_ptr<FrameConnection>)> on_accept;
};

void FrameServer::Impl::Accept() {
  acceptor.async_accept(
      [self = shared_from_this()](const boost::system::error_code& error, tcp::socket socket) {
        if (!self->acceptor.is_open()) return;
        if (!error) {
          self->Adopt(std::move(socket));
          if (self->acceptor.is_open()) self->Accept();
          return;
        }
        WEFT_LOG(WARNING) << "accept on " << self->endpoint.ToString() << ": " << error.message();
        self->retry.expires_after(kRetryDelay);
        self->retry.async_wait([self](const boost::system::error_code&) {
          if (self->acceptor.is_open()) self->Accept();
        });
      });
}

void FrameServer::Impl::Adopt(tcp::socket socket) {
  std::ostringstream peer;
  boost::system::error_code error;
  peer << socket.remote_endpoint(error);
  if (error) return;  // gone again
  SetControlSocketOptions(socket.native_handle());
  ::fcntl(socket.native_handle(), F_SETFD, FD_CLOEXEC);
  on_accept(std::make_unique<FrameConnection>(loop, socket.release(), peer.str()));
}

StatusOr<std::unique_ptr<FrameServer>> FrameServer::Listen(
    EventLoop* loop, const Endpoint& endpoint,
    std::function<void(std::unique_ptr<FrameConnection>)> on_accept) {
  WEFT_ASSIGN_OR_RETURN(const ControlListener listener, ListenControl(endpoint));
  auto impl = std::make_shared<Impl>(loop, listener, std::move(on_accept));
  impl->Accept();
  return std::unique_ptr<FrameServer>(new FrameServer(std::move(impl)));
}

FrameServer::FrameServer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

FrameServer::~FrameServer() {
  boost::system::error_code ignored;
  impl_->acceptor.close(ignored);
  impl_->retry.cancel();
}

const Endpoint& FrameServer::endpoint() const { return impl_->endpoint; }

}  // namespace weft
