#include "cluster/comm/link.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "cluster/base/logging.h"

namespace weft {
namespace {

// What is published at once: small enough that the reader works on one chunk while the writer
// copies the next.
constexpr size_t kChunk = 128 << 10;
constexpr size_t kMaxDataFrame = 1 << 20;
constexpr size_t kMaxControlFrame = 4096;

std::string RankName(int rank) { return "rank " + std::to_string(rank); }

class SharedMemoryLink : public Link {
 public:
  SharedMemoryLink(int peer, UniqueFd socket, Ring out, Ring in, Ringer ringer,
                   std::shared_ptr<Segment> mine, std::shared_ptr<Segment> theirs)
      : Link(peer, std::move(socket)),
        mine_(std::move(mine)),
        theirs_(std::move(theirs)),
        out_(out),
        in_(in),
        ringer_(std::move(ringer)) {}

  size_t Write(const iovec* parts, int num_parts) override {
    const size_t taken = out_.Write(parts, num_parts, kChunk);
    if (taken > 0) ringer_.Ring();
    return taken;
  }

  std::span<const std::byte> Peek() override { return in_.Peek(); }

  size_t UnreadBytes() const override { return in_.UnreadBytes(); }

  void Consume(size_t bytes, bool message_ends) override {
    in_.Consume(bytes);
    // A writer that waits for room is woken once it can write a good deal: half of the ring, not
    // every chunk.
    if (message_ends || in_.FreeBytes() >= in_.capacity() / 2) ringer_.Ring();
  }

 private:
  // Keep the memory of the rings mapped.
  std::shared_ptr<Segment> mine_;
  std::shared_ptr<Segment> theirs_;
  Ring out_;
  Ring in_;
  Ringer ringer_;
};

class SocketLink : public Link {
 public:
  SocketLink(int peer, UniqueFd socket, size_t ring_bytes)
      : Link(peer, std::move(socket)),
        memory_(std::make_unique_for_overwrite<std::byte[]>(ring_bytes + 64)),
        in_(&positions_, Aligned(), ring_bytes) {}

  size_t Write(const iovec* parts, int num_parts) override {
    if (state() == State::kFailed) return 0;
    if (frame_left_ == 0) OpenFrame(parts, num_parts);
    std::vector<iovec>& out = iov_;
    out.clear();
    if (header_left_ > 0) {
      out.push_back(
          {reinterpret_cast<std::byte*>(&header_) + sizeof(header_) - header_left_, header_left_});
    }
    size_t left = frame_left_;
    for (int i = 0; i < num_parts && left > 0; ++i) {
      const size_t n = std::min(parts[i].iov_len, left);
      if (n > 0) out.push_back({parts[i].iov_base, n});
      left -= n;
    }
    const size_t sent = SendNow(out);
    const size_t of_header = std::min(sent, header_left_);
    header_left_ -= of_header;
    frame_left_ -= sent - of_header;
    return sent - of_header;
  }

  std::span<const std::byte> Peek() override {
    std::span<const std::byte> span = in_.Peek();
    if (span.size() < 64) {
      Pump();
      span = in_.Peek();
    }
    return span;
  }

  size_t UnreadBytes() const override { return in_.UnreadBytes(); }

  void Consume(size_t bytes, bool) override { in_.Consume(bytes); }

  short poll_events() const override {
    if (state() != State::kOpen) return 0;
    const bool room = in_.FreeBytes() > 0;
    return static_cast<short>((room ? POLLIN : 0) | (blocked_ ? POLLOUT : 0));
  }

 protected:
  std::span<std::byte> DataRoom() override { return in_.WritableSpan(); }
  void DataArrived(size_t bytes) override { in_.Publish(bytes); }
  bool AtFrameBoundary() const override { return frame_left_ == 0 && header_left_ == 0; }

 private:
  std::byte* Aligned() {
    const auto address = reinterpret_cast<uintptr_t>(memory_.get());
    return memory_.get() + (64 - address % 64) % 64;
  }

  void OpenFrame(const iovec* parts, int num_parts) {
    size_t total = 0;
    for (int i = 0; i < num_parts; ++i) total += parts[i].iov_len;
    frame_left_ = std::min(total, kMaxDataFrame);
    header_ = {.type = kData, .length = static_cast<uint32_t>(frame_left_)};
    header_left_ = sizeof(header_);
  }

  size_t SendNow(std::vector<iovec>& parts) {
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    const ssize_t sent = sendmsg(fd(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    blocked_ = sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
    if (sent >= 0) return static_cast<size_t>(sent);
    if (blocked_ || errno == EINTR) return 0;
    const int error = errno;
    Pump();  // the peer may have said why
    if (state() == State::kOpen) SetLost(std::strerror(error));
    return 0;
  }

  RingPositions positions_{};
  // Not filled: a peer that never sends costs address space only.
  std::unique_ptr<std::byte[]> memory_;
  Ring in_;
  std::vector<iovec> iov_;
  FrameHeader header_{};
  size_t header_left_ = 0;
  size_t frame_left_ = 0;
  bool blocked_ = false;
};

}  // namespace

const short Link::kReadable = POLLIN;

Link::Link(int peer, UniqueFd socket)
    : peer_(peer), world_rank_(peer), socket_(std::move(socket)) {}

void Link::Pump() {
  for (int i = 0; i < 64 && state_ == State::kOpen && PumpOnce(); ++i) {
  }
}

bool Link::PumpOnce() {
  size_t got = 0;
  if (header_got_ < sizeof(FrameHeader)) {
    if (!Receive(header_bytes_.data() + header_got_, sizeof(FrameHeader) - header_got_, &got))
      return false;
    header_got_ += got;
    if (header_got_ < sizeof(FrameHeader)) return true;
    std::memcpy(&header_, header_bytes_.data(), sizeof(FrameHeader));
    payload_got_ = 0;
    control_.clear();
    if (header_.type != kData && header_.length > kMaxControlFrame) {
      SetLost("sent a frame that is no frame");
      return false;
    }
  } else if (header_.type == kData) {
    const std::span<std::byte> room = DataRoom();
    const size_t want = std::min<size_t>(room.size(), header_.length - payload_got_);
    if (want == 0 || !Receive(room.data(), want, &got)) return false;
    DataArrived(got);
    payload_got_ += got;
  } else {
    control_.resize(header_.length);
    auto* into = reinterpret_cast<std::byte*>(control_.data()) + payload_got_;
    if (!Receive(into, header_.length - payload_got_, &got)) return false;
    payload_got_ += got;
  }
  if (payload_got_ == header_.length) FrameComplete();
  return true;
}

bool Link::Receive(std::byte* into, size_t room, size_t* got) {
  const ssize_t n = recv(fd(), into, room, MSG_DONTWAIT);
  if (n > 0) {
    *got = static_cast<size_t>(n);
    return true;
  }
  if (n == 0) {
    SetLost("its connection ended");
  } else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
    SetLost(std::strerror(errno));
  }
  return false;
}

void Link::FrameComplete() {
  header_got_ = 0;
  if (header_.type == kBye) {
    state_ = State::kLeft;
    reason_ = Unavailable(RankName(world_rank_) + " has left: its communicator was destroyed");
  } else if (header_.type == kFailure && control_.size() >= sizeof(int32_t)) {
    int32_t lost = -1;
    std::memcpy(&lost, control_.data(), sizeof(lost));
    const std::string text = control_.substr(sizeof(lost));
    state_ = State::kFailed;
    lost_rank_ = lost;
    reason_ = lost >= 0 ? Unavailable(RankName(lost) + " is lost, says " + RankName(world_rank_))
                        : Unavailable(RankName(world_rank_) + " gave up: " + text);
  } else if (header_.type != kData) {
    SetLost("sent a frame of an unknown type");
  }
}

void Link::SetLost(const std::string& how) {
  state_ = State::kFailed;
  lost_rank_ = world_rank_;
  reason_ = Unavailable(RankName(world_rank_) + " is lost: " + how);
}

void Link::SendBye() { SendControl(kBye, ""); }

void Link::SendFailed(int lost_rank, const std::string& reason) {
  const int32_t lost = lost_rank;
  std::string payload(reinterpret_cast<const char*>(&lost), sizeof(lost));
  payload += reason.substr(0, kMaxControlFrame - sizeof(lost));
  SendControl(kFailure, payload);
}

void Link::SendControl(FrameType type, const std::string& payload) {
  if (state_ == State::kFailed) return;
  const FrameHeader header{.type = type, .length = static_cast<uint32_t>(payload.size())};
  std::string frame(reinterpret_cast<const char*>(&header), sizeof(header));
  frame += payload;
  const bool sent =
      AtFrameBoundary() && send(fd(), frame.data(), frame.size(), MSG_NOSIGNAL | MSG_DONTWAIT) ==
                               static_cast<ssize_t>(frame.size());
  // In the midst of a message, or with a full buffer: the peer sees the connection end instead.
  if (!sent) shutdown(fd(), SHUT_WR);
}

std::unique_ptr<Link> MakeSharedMemoryLink(int peer, UniqueFd socket, Ring out, Ring in,
                                           Ringer ringer, std::shared_ptr<Segment> mine,
                                           std::shared_ptr<Segment> theirs) {
  return std::make_unique<SharedMemoryLink>(peer, std::move(socket), out, in, std::move(ringer),
                                            std::move(mine), std::move(theirs));
}

std::unique_ptr<Link> MakeSocketLink(int peer, UniqueFd socket, size_t ring_bytes) {
  return std::make_unique<SocketLink>(peer, std::move(socket), ring_bytes);
}

}  // namespace weft
