#include "cluster/config/text_positions.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <map>

namespace weft {
namespace {

using ::google::protobuf::Descriptor;
using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::io::Tokenizer;

class IgnoreErrors : public ::google::protobuf::io::ErrorCollector {
 public:
  void AddError(int, int, const std::string&) override {}
};

// A message that is open at some point of the text.
struct Frame {
  enum class Expect { kName, kValue, kListElement };

  const Descriptor* message = nullptr;  // null below an unknown field
  std::string prefix;
  Expect expect = Expect::kName;
  std::string name;
  TextPosition name_position;
  const FieldDescriptor* field = nullptr;
  std::map<std::string, int> counts;  // values of each repeated field so far

  // The path of the next value of `name`.
  std::string NextPath() {
    if (field == nullptr || !field->is_repeated()) return prefix + name;
    return prefix + name + "[" + std::to_string(counts[name]++) + "]";
  }
};

class Scanner {
 public:
  explicit Scanner(const Descriptor* message) { frames_.push_back({.message = message}); }

  void Take(const Tokenizer::Token& token) {
    const TextPosition position = {token.line + 1, token.column + 1};
    const std::string& text = token.text;
    if (text == "}" || text == ">") {
      if (frames_.size() > 1) frames_.pop_back();
    } else if (text == "{" || text == "<") {
      Open();
    } else if (top().expect == Frame::Expect::kName) {
      if (token.type == Tokenizer::TYPE_IDENTIFIER) Name(text, position);
    } else if (text == "[") {
      top().expect = Frame::Expect::kListElement;
    } else if (text == "]") {
      top().expect = Frame::Expect::kName;
    } else if (text != ":" && text != "," && text != ";" && text != "-") {
      Value(token, position);
    }
    after_string_ = token.type == Tokenizer::TYPE_STRING;
  }

  TextScan Finish() && {
    Frame& frame = top();
    scan_.field_name = frame.name;
    scan_.prefix = frame.prefix;
    scan_.field_position = frame.name_position;
    scan_.value_open = frame.expect != Frame::Expect::kName;
    scan_.message = frame.message;
    scan_.field = frame.field;
    return std::move(scan_);
  }

 private:
  Frame& top() { return frames_.back(); }

  void Name(const std::string& name, TextPosition position) {
    Frame& frame = top();
    frame.name = name;
    frame.name_position = position;
    frame.field = frame.message == nullptr ? nullptr : frame.message->FindFieldByName(name);
    frame.expect = Frame::Expect::kValue;
  }

  void Open() {
    Frame below;
    below.prefix = top().NextPath() + ".";
    below.message = top().field == nullptr ? nullptr : top().field->message_type();
    if (top().expect == Frame::Expect::kValue) top().expect = Frame::Expect::kName;
    frames_.push_back(std::move(below));
  }

  void Value(const Tokenizer::Token& token, TextPosition position) {
    // "a" "b" is one string in two pieces.
    if (after_string_ && token.type == Tokenizer::TYPE_STRING) return;
    scan_.values.push_back({top().NextPath(), position});
    if (top().expect == Frame::Expect::kValue) top().expect = Frame::Expect::kName;
  }

  std::vector<Frame> frames_;
  bool after_string_ = false;
  TextScan scan_;
};

}  // namespace

TextScan ScanText(std::string_view text, const Descriptor* message, TextPosition stop) {
  ::google::protobuf::io::ArrayInputStream input(text.data(), static_cast<int>(text.size()));
  IgnoreErrors errors;
  Tokenizer tokenizer(&input, &errors);
  // As TextFormat::Parser sets it up.
  tokenizer.set_allow_f_after_float(true);
  tokenizer.set_comment_style(Tokenizer::SH_COMMENT_STYLE);
  tokenizer.set_require_space_after_number(false);
  tokenizer.set_allow_multiline_strings(true);
  Scanner scanner(message);
  while (tokenizer.Next()) {
    const Tokenizer::Token& token = tokenizer.current();
    if (!(TextPosition{token.line + 1, token.column + 1} < stop)) break;
    scanner.Take(token);
  }
  return std::move(scanner).Finish();
}

}  // namespace weft
