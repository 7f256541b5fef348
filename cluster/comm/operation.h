// An operation between the call and its end: what the caller's Work and the communicator's thread share.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "cluster/base/mutex.h"
#include "cluster/base/status.h"
#include "cluster/comm/exchange.h"

namespace weft {

struct OpState {
  OpIdentity identity;
  std::string what;  // "all_reduce grads #5"
  int peer = -1;     // of a message
  uint64_t record = 0;
  Mutex mutex;
  CondVar changed;
  bool done WEFT_GUARDED_BY(mutex) = false;
  Status status WEFT_GUARDED_BY(mutex);

  void Finish(const Status& result) {
    MutexLock lock(mutex);
    done = true;
    status = result;
    changed.NotifyAll();
  }
};

// A message to or from one peer.
struct Message {
  enum class Direction { kSend, kReceive };
  Direction direction = Direction::kSend;
  int peer = -1;
  // Only read where it is sent.
  void* data = nullptr;
  size_t bytes = 0;
};

// What waits in the queue: a collective, if it has a body, else a message.
struct Operation {
  // Runs on the communicator's thread; uses only the identity and what it captured.
  using Body = std::function<Status(const OpIdentity&)>;

  std::shared_ptr<OpState> state;
  Body collective;
  Message message;
};

}  // namespace weft
