// The coordinator's connections: agents that have said hello with the run's token, and strangers that may only do that or
// ask for the status. What a stranger sends besides is refused with a reason.
//
// Errors: Listen gives one message for a port in use.
// Thread rule: everything on the loop's thread; callbacks come from the loop, never from a method.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cluster/base/status.h"
#include "cluster/rpc/control.pb.h"
#include "cluster/rpc/event_loop.h"
#include "cluster/rpc/frame_connection.h"
#include "cluster/rpc/frame_server.h"

namespace weft {

class AgentLinks {
 public:
  struct Callbacks {
    // A number for the new agent, or why it is refused.
    std::function<StatusOr<int>(const control::AgentHello&)> on_hello;
    // It has its number and can be sent to.
    std::function<void(int agent)> on_joined;
    std::function<void(int agent, const control::Frame&)> on_frame;
    std::function<void(int agent, const Status& why)> on_lost;
    std::function<std::string()> status_json;
  };

  // `where_token`: what a refused agent is told about the right token.
  AgentLinks(EventLoop* loop, std::string run_token, std::string where_token, Callbacks callbacks);

  Status Listen(const Endpoint& endpoint);
  // Nobody new gets in.
  void StopListening() { server_.reset(); }
  const Endpoint& endpoint() const { return server_->endpoint(); }

  // Nothing if it is gone: its on_lost is on the way.
  void Send(int agent, const control::Frame& frame);
  // Cuts the agents that `keep` does not hold, without on_lost.
  void DropAllBut(const std::function<bool(int agent)>& keep);
  int num_agents() const;

 private:
  struct Link {
    std::unique_ptr<FrameConnection> connection;
    int agent = -1;  // before its hello
    std::unique_ptr<EventLoop::Registration> hello_timer;
  };
  void OnAccept(std::unique_ptr<FrameConnection> connection);
  void OnFrame(int id, const control::Frame& frame);
  void OnClosed(int id, const Status& why);
  void OnHello(Link* link, const control::AgentHello& hello);
  void OnStatusRequest(Link* link, const control::StatusRequest& request);
  static void Refuse(Link* link, const std::string& reason);
  void Drop(int id);

  EventLoop* const loop_;
  const std::string run_token_;
  const std::string where_token_;
  const Callbacks callbacks_;
  std::unique_ptr<FrameServer> server_;
  std::map<int, Link> links_;
  int next_id_ = 1;
  std::vector<Link> dead_;  // destroyed outside their own callbacks
  std::unique_ptr<EventLoop::Registration> bury_;
};

}  // namespace weft
