// Where each value of a text-format file stands. The protobuf parser knows the line of a field, but neither the line of
// each value of a list nor the path ("optimizer.lr") of what it stumbles over.
//
// Thread rule: pure functions.
#pragma once

#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace google::protobuf {
class Descriptor;
class FieldDescriptor;
}  // namespace google::protobuf

namespace weft {

struct TextPosition {
  // Lines and columns count from 1.
  int line = 0;
  int column = 0;

  bool operator<(const TextPosition& other) const {
    return line != other.line ? line < other.line : column < other.column;
  }
};

struct TextValue {
  std::string path;
  TextPosition position;
};

struct TextScan {
  // Every value before `stop`, in the order of the text.
  std::vector<TextValue> values;
  // The last field name before `stop`: its name, the path of its message ("" or "optimizer."), where it stands, and
  // whether its value is still to come.
  std::string field_name;
  std::string prefix;
  TextPosition field_position;
  bool value_open = false;
  // Null where the text names a field that does not exist.
  const google::protobuf::Descriptor* message = nullptr;
  const google::protobuf::FieldDescriptor* field = nullptr;
};

inline constexpr TextPosition kTextEnd = {std::numeric_limits<int>::max(), 0};

// Reads `text` up to `stop`; never fails: what no parser would take is read somehow.
TextScan ScanText(std::string_view text, const google::protobuf::Descriptor* message,
                  TextPosition stop = kTextEnd);

}  // namespace weft
