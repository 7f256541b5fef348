// The io_context inside an EventLoop. Only for .cc files of this folder: Asio takes a second to
// compile.
#pragma once

#include <boost/asio/io_context.hpp>

#include "cluster/rpc/event_loop.h"

namespace weft {

struct EventLoop::Impl {
  boost::asio::io_context context{1};
};

}  // namespace weft
