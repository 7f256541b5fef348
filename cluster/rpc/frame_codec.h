// control.Frame on the wire: u32 little-endian length, then the serialised message; at most 64 MiB.
//
// Errors: Corruption for a length or bytes that cannot be a frame; the connection is closed then,
// because the reader no longer knows where the next frame starts. Thread rule: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "cluster/base/status.h"
#include "cluster/rpc/control.pb.h"

namespace weft {

constexpr size_t kFrameHeaderBytes = 4;
constexpr uint32_t kMaxFrameBytes = 64u << 20;

// Header and body. InvalidArgument if the frame is over the limit.
StatusOr<std::string> EncodeFrame(const control::Frame& frame);

// Body length told by a header of kFrameHeaderBytes bytes.
StatusOr<uint32_t> DecodeFrameLength(const void* header);

StatusOr<control::Frame> DecodeFrameBody(std::string_view body);

// "step_record", "spawn", "from_worker/progress": what a frame carries, for logs.
std::string FrameName(const control::Frame& frame);

// Order of tokens: epoch first, then generation.
bool IsOlder(const control::Token& a, const control::Token& b);
std::string TokenName(const control::Token& token);  // "E1.G2"

}  // namespace weft
