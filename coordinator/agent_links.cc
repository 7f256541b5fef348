#include "coordinator/agent_links.h"

#include <utility>

#include "cluster/base/logging.h"

namespace weft {
namespace {

constexpr auto kHelloTimeout = std::chrono::seconds(10);

}  // namespace

AgentLinks::AgentLinks(EventLoop* loop, std::string run_token, std::string where_token,
                       Callbacks callbacks)
    : loop_(loop),
      run_token_(std::move(run_token)),
      where_token_(std::move(where_token)),
      callbacks_(std::move(callbacks)) {}

Status AgentLinks::Listen(const Endpoint& endpoint) {
  WEFT_ASSIGN_OR_RETURN(server_, FrameServer::Listen(loop_, endpoint, [this](auto connection) {
                          OnAccept(std::move(connection));
                        }));
  return OkStatus();
}

void AgentLinks::OnAccept(std::unique_ptr<FrameConnection> connection) {
  const int id = next_id_++;
  Link& link = links_[id];
  link.connection = std::move(connection);
  link.hello_timer = loop_->After(kHelloTimeout, [this, id] { Drop(id); });
  link.connection->Start(
      {.on_frame = [this, id](const control::Frame& frame) { OnFrame(id, frame); },
       .on_closed = [this, id](const Status& why) { OnClosed(id, why); }});
}

void AgentLinks::OnFrame(int id, const control::Frame& frame) {
  const auto found = links_.find(id);
  if (found == links_.end()) return;
  Link* const link = &found->second;
  if (frame.has_agent_hello()) return OnHello(link, frame.agent_hello());
  if (frame.has_status_request()) return OnStatusRequest(link, frame.status_request());
  if (link->agent < 0) return Refuse(link, "the first frame must be AgentHello");
  callbacks_.on_frame(link->agent, frame);
}

void AgentLinks::OnClosed(int id, const Status& why) {
  const auto link = links_.find(id);
  if (link == links_.end()) return;
  const int agent = link->second.agent;
  Drop(id);
  if (agent >= 0) callbacks_.on_lost(agent, why);
}

void AgentLinks::OnHello(Link* link, const control::AgentHello& hello) {
  if (hello.run_token() != run_token_) {
    WEFT_LOG(WARNING) << "refused an agent on " << hello.host() << ": wrong run token";
    return Refuse(link, "wrong run token: " + where_token_);
  }
  if (link->agent >= 0) return Refuse(link, "a second AgentHello");
  const StatusOr<int> agent = callbacks_.on_hello(hello);
  if (!agent.ok()) return Refuse(link, agent.status().message());
  link->hello_timer.reset();
  link->agent = *agent;
  callbacks_.on_joined(*agent);
}

void AgentLinks::OnStatusRequest(Link* link, const control::StatusRequest& request) {
  if (request.run_token() != run_token_) return Refuse(link, "wrong run token: " + where_token_);
  control::Frame frame;
  frame.mutable_status_reply()->set_json(callbacks_.status_json());
  link->connection->Send(frame);
}

void AgentLinks::Refuse(Link* link, const std::string& reason) {
  control::Frame frame;
  frame.mutable_refused()->set_reason(reason);
  link->connection->Send(frame);
  link->connection->CloseAfterWrites(FailedPrecondition(reason));
}

void AgentLinks::Drop(int id) {
  const auto link = links_.find(id);
  if (link == links_.end()) return;
  dead_.push_back(std::move(link->second));
  links_.erase(link);
  bury_ = loop_->After(Duration::zero(), [this] { dead_.clear(); });
}

void AgentLinks::Send(int agent, const control::Frame& frame) {
  for (auto& [id, link] : links_) {
    if (link.agent == agent) link.connection->Send(frame);
  }
}

void AgentLinks::DropAllBut(const std::function<bool(int agent)>& keep) {
  std::vector<int> lost;
  for (const auto& [id, link] : links_) {
    if (link.agent >= 0 && !keep(link.agent)) lost.push_back(id);
  }
  for (const int id : lost) Drop(id);
}

int AgentLinks::num_agents() const {
  int count = 0;
  for (const auto& [id, link] : links_) count += link.agent >= 0 ? 1 : 0;
  return count;
}

}  // namespace weft
