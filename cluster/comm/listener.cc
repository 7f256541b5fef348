#include "cluster/comm/listener.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <utility>

#include "cluster/base/logging.h"
#include "cluster/base/text.h"
#include "cluster/comm/tcp_socket.h"

namespace weft {
namespace {

// A peer says its Hello at once; a stranger may never.
constexpr Duration kTimeForHello = std::chrono::seconds(10);

}  // namespace

StatusOr<std::unique_ptr<Listener>> Listener::Bind(const ListenerOptions& options) {
  WEFT_ASSIGN_OR_RETURN(UniqueFd fd,
                        ListenTcp({.host = options.host, .port = std::to_string(options.port)}));
  WEFT_ASSIGN_OR_RETURN(const int port, LocalPort(fd.get()));
  std::string host = options.advertised_host.empty() ? options.host : options.advertised_host;
  if (host.find(':') != std::string::npos) host = "[" + host + "]";
  return std::unique_ptr<Listener>(
      new Listener(options, std::move(fd), host + ":" + std::to_string(port)));
}

void Listener::Hear(TimePoint deadline) {
  std::vector<pollfd> fds{{.fd = fd_.get(), .events = POLLIN, .revents = 0}};
  for (const Caller& caller : callers_)
    fds.push_back({.fd = caller.socket.get(), .events = POLLIN, .revents = 0});
  // At least once a second: the time of a silent caller may be over.
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
  poll(fds.data(), fds.size(), static_cast<int>(std::clamp<int64_t>(left + 1, 0, 1000)));
  AcceptAll();
  const TimePoint now = Clock::now();
  std::erase_if(callers_, [&](Caller& caller) { return !Listen(&caller, now); });
}

void Listener::AcceptAll() {
  for (;;) {
    UniqueFd socket(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.valid()) return;
    if (MakeRoom())
      callers_.push_back({.socket = std::move(socket), .hello = {}, .since = Clock::now()});
  }
}

bool Listener::MakeRoom() {
  if (callers_.size() < options_.max_callers) return true;
  const auto silent = std::find_if(callers_.begin(), callers_.end(),
                                   [](const Caller& caller) { return !caller.said_hello(); });
  if (silent == callers_.end()) {
    WEFT_LOG(WARNING) << "the listener on " << endpoint_
                      << " turned a connection away: " << callers_.size()
                      << " others wait for their communicators";
    return false;
  }
  callers_.erase(silent);
  return true;
}

bool Listener::Listen(Caller* caller, TimePoint now) const {
  if (caller->said_hello()) {
    // It waits for an answer and says nothing: what can be read is the end.
    char byte;
    const ssize_t n = recv(caller->socket.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n < 0 && (errno == EAGAIN || errno == EINTR) &&
           now - caller->since < options_.keep_callers;
  }
  auto* into = reinterpret_cast<char*>(&caller->hello) + caller->got;
  const ssize_t n = recv(caller->socket.get(), into, sizeof(Hello) - caller->got, MSG_DONTWAIT);
  if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) return false;
  if (n > 0) caller->got += static_cast<size_t>(n);
  return caller->said_hello() || now - caller->since < kTimeForHello;
}

void Listener::JudgeCallers(const Judge& judge) {
  std::erase_if(callers_, [&](Caller& caller) {
    return caller.said_hello() && judge(caller) == Verdict::kDone;
  });
}

std::string Listener::KeptGroups() const {
  std::set<std::string> groups;
  for (const Caller& caller : callers_) {
    if (caller.said_hello()) groups.insert(GroupOf(caller.hello));
  }
  return Join({groups.begin(), groups.end()}, ", ");
}

}  // namespace weft
