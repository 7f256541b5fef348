// The way to one peer: a byte stream in each direction, and the news that the peer has left, failed
// or died. Two kinds: through shared memory (ranks of one host; the socket beside it carries only
// the news), and through a socket.
//
// On the socket: frames of {u32 type, u32 length}, little-endian, then `length` bytes. DATA is the
// byte stream; BYE says that the peer is done and leaves; FAILED carries {i32 lost rank or -1,
// text}. The end of the connection without either is a death.
//
// Nothing here blocks. Thread rule: one thread.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "cluster/base/status.h"
#include "cluster/comm/doorbell.h"
#include "cluster/comm/ring.h"
#include "cluster/comm/unique_fd.h"

namespace weft {

class Link {
 public:
  enum class State { kOpen, kLeft, kFailed };

  Link(int peer, UniqueFd socket);
  virtual ~Link() = default;
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  // Takes bytes of the parts, in order; returns how many (0: no room now). The caller goes on with
  // the rest of the same message until all of it is taken.
  virtual size_t Write(const iovec* parts, int num_parts) = 0;
  // Bytes that have arrived and lie in one piece, aligned as in the sender's stream (modulo 64).
  virtual std::span<const std::byte> Peek() = 0;
  // All bytes that have arrived, in one piece or not.
  virtual size_t UnreadBytes() const = 0;
  // `message_ends`: the last byte belongs to this message's end.
  virtual void Consume(size_t bytes, bool message_ends) = 0;

  // For poll(): 0 if there is nothing to wait for.
  virtual short poll_events() const { return state_ == State::kOpen ? kReadable : 0; }
  int fd() const { return socket_.get(); }
  // Reads what the socket has.
  void Pump();

  // Best effort: the peer that hears neither sees the connection end.
  void SendBye();
  // `lost_rank`: the rank, by its number in the world, whose death is the cause; -1: none.
  void SendFailed(int lost_rank, const std::string& reason);

  // Which member the peer is, and what a person calls it: by default the same number.
  int peer() const { return peer_; }
  void SetWorldRank(int world_rank) { world_rank_ = world_rank; }
  State state() const { return state_; }
  // Why the link is not open any more: Unavailable, names the rank that is the cause.
  const Status& reason() const { return reason_; }
  // The rank that died, by its number in the world, as far as this link knows; -1: none.
  int lost_rank() const { return lost_rank_; }

 protected:
  static const short kReadable;
  enum FrameType : uint32_t { kData = 1, kBye = 2, kFailure = 3 };
  struct FrameHeader {
    uint32_t type;
    uint32_t length;
  };

  // Room for DATA in one piece; empty: none now.
  virtual std::span<std::byte> DataRoom() { return {}; }
  virtual void DataArrived(size_t) {}
  // Whether a control frame may stand here in the outgoing stream.
  virtual bool AtFrameBoundary() const { return true; }
  void SetLost(const std::string& how);

 private:
  // One recv into its place; false: nothing more now.
  bool PumpOnce();
  bool Receive(std::byte* into, size_t room, size_t* got);
  void FrameComplete();
  void SendControl(FrameType type, const std::string& payload);

  const int peer_;
  int world_rank_;
  UniqueFd socket_;
  State state_ = State::kOpen;
  Status reason_;
  int lost_rank_ = -1;
  // The frame under way: its header, then its payload.
  std::array<std::byte, sizeof(FrameHeader)> header_bytes_;
  size_t header_got_ = 0;
  FrameHeader header_{};
  size_t payload_got_ = 0;
  std::string control_;
};

// Peers on one host. `out` lies in this rank's segment, `in` in the peer's.
std::unique_ptr<Link> MakeSharedMemoryLink(int peer, UniqueFd socket, Ring out, Ring in,
                                           Ringer ringer, std::shared_ptr<Segment> mine,
                                           std::shared_ptr<Segment> theirs);
// `ring_bytes`: private buffer for what arrives.
std::unique_ptr<Link> MakeSocketLink(int peer, UniqueFd socket, size_t ring_bytes);

}  // namespace weft
