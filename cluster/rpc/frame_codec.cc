#include "cluster/rpc/frame_codec.h"

#include <tuple>

namespace weft {
namespace {

// Name of the field of `message` that is set, by its oneof "body"; "" if none.
std::string BodyName(const google::protobuf::Message& message) {
  const auto* oneof = message.GetDescriptor()->FindOneofByName("body");
  const auto* field = message.GetReflection()->GetOneofFieldDescriptor(message, oneof);
  return field == nullptr ? "" : field->name();
}

}  // namespace

StatusOr<std::string> EncodeFrame(const control::Frame& frame) {
  const size_t size = frame.ByteSizeLong();
  if (size > kMaxFrameBytes) {
    return InvalidArgument("a " + FrameName(frame) + " frame of " + std::to_string(size) +
                           " bytes is over the limit of " + std::to_string(kMaxFrameBytes));
  }
  std::string bytes(kFrameHeaderBytes + size, '\0');
  for (size_t i = 0; i < kFrameHeaderBytes; ++i) bytes[i] = static_cast<char>(size >> (8 * i));
  if (!frame.SerializeToArray(bytes.data() + kFrameHeaderBytes, static_cast<int>(size))) {
    return Internal("cannot serialise a " + FrameName(frame) + " frame");
  }
  return bytes;
}

StatusOr<uint32_t> DecodeFrameLength(const void* header) {
  const auto* bytes = static_cast<const unsigned char*>(header);
  uint32_t length = 0;
  for (size_t i = 0; i < kFrameHeaderBytes; ++i)
    length |= static_cast<uint32_t>(bytes[i]) << (8 * i);
  if (length > kMaxFrameBytes) {
    return Corruption("a frame says it has " + std::to_string(length) +
                      " bytes, over the limit of " + std::to_string(kMaxFrameBytes) +
                      ": the other side does not speak Weft's protocol");
  }
  return length;
}

StatusOr<control::Frame> DecodeFrameBody(std::string_view body) {
  control::Frame frame;
  if (!frame.ParseFromArray(body.data(), static_cast<int>(body.size()))) {
    return Corruption("a frame of " + std::to_string(body.size()) + " bytes does not parse");
  }
  return frame;
}

std::string FrameName(const control::Frame& frame) {
  const std::string name = BodyName(frame);
  if (frame.has_from_worker()) return name + "/" + BodyName(frame.from_worker().message());
  if (frame.has_to_worker()) return name + "/" + BodyName(frame.to_worker().message());
  return name.empty() ? "empty" : name;
}

bool IsOlder(const control::Token& a, const control::Token& b) {
  return std::make_tuple(a.epoch(), a.generation()) < std::make_tuple(b.epoch(), b.generation());
}

std::string TokenName(const control::Token& token) {
  return "E" + std::to_string(token.epoch()) + ".G" + std::to_string(token.generation());
}

}  // namespace weft
