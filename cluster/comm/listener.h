// Where a rank waits for the calls of its peers. One listener serves all communicators of a rank, one after the other: a
// connection says in its Hello which group it is for, and one that comes before its ConnectTcp is kept.
//
// What is kept is bounded: in number (the oldest that has not said its Hello goes first), and in time. A caller that hangs up is
// let go at once.
//
// Errors: InvalidArgument, Unavailable (the port is in use) name the endpoint. Thread rule: belongs to one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cluster/base/clock.h"
#include "cluster/base/status.h"
#include "cluster/comm/tcp_handshake.h"
#include "cluster/comm/unique_fd.h"

namespace weft {

struct ListenerOptions {
  std::string host = "127.0.0.1";
  // 0: any.
  int port = 0;
  // The host that peers use; empty: `host`. Needed where `host` is 0.0.0.0.
  std::string advertised_host;
  // How many connections may wait for a communicator, and for how long.
  size_t max_callers = 4096;
  Duration keep_callers = std::chrono::minutes(10);
};

class Listener {
 public:
  // Somebody who has called: `hello` is what it says it is.
  struct Caller {
    UniqueFd socket;
    Hello hello;
    size_t got = 0;  // bytes of the Hello
    TimePoint since{};

    bool said_hello() const { return got == sizeof(Hello); }
  };
  // What to do with a caller who has said its Hello: keep it for a later communicator, or be done with it. The socket may be
  // taken.
  enum class Verdict { kKeep, kDone };
  using Judge = std::function<Verdict(Caller&)>;

  static StatusOr<std::unique_ptr<Listener>> Bind(const ListenerOptions& options);

  // "host:port", for the peers.
  const std::string& endpoint() const { return endpoint_; }
  int fd() const { return fd_.get(); }

  // Waits until somebody calls or says something, at the latest until `deadline`.
  void Hear(TimePoint deadline);
  // Shows each caller who has said its Hello to `judge`.
  void JudgeCallers(const Judge& judge);
  // "dp.4, tp.2": the groups of the callers that are kept.
  std::string KeptGroups() const;

 private:
  Listener(const ListenerOptions& options, UniqueFd fd, std::string endpoint)
      : options_(options), fd_(std::move(fd)), endpoint_(std::move(endpoint)) {}

  void AcceptAll();
  bool MakeRoom();
  // False: it has hung up, or its time is over.
  bool Listen(Caller* caller, TimePoint now) const;

  const ListenerOptions options_;
  UniqueFd fd_;
  std::string endpoint_;
  std::vector<Caller> callers_;
};

}  // namespace weft
