#include "cluster/config/overrides.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <charconv>
#include <optional>

#include "cluster/base/text.h"
#include "cluster/config/recipe_tree.h"

namespace weft {
namespace {

using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::Message;
using ::google::protobuf::Reflection;

std::string Trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(" \t") - begin + 1));
}

// A name of a path with its index: "train_shards[0]".
struct PathPart {
  std::string name;
  std::optional<int> index;
};

std::optional<PathPart> ParsePart(const std::string& text) {
  const size_t open = text.find('[');
  if (open == std::string::npos) return PathPart{text, std::nullopt};
  int index = 0;
  const char* const end = text.data() + text.size() - 1;
  const auto [stop, error] = std::from_chars(text.data() + open + 1, end, index);
  if (text.back() != ']' || error != std::errc() || stop != end || index < 0) return std::nullopt;
  return PathPart{text.substr(0, open), index};
}

// What a field takes, in words.
std::string ExpectedValue(const FieldDescriptor* field) {
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
    case FieldDescriptor::CPPTYPE_INT64:
      return "an integer";
    case FieldDescriptor::CPPTYPE_UINT32:
    case FieldDescriptor::CPPTYPE_UINT64:
      return "an integer that is not negative";
    case FieldDescriptor::CPPTYPE_BOOL:
      return "true or false";
    case FieldDescriptor::CPPTYPE_STRING:
      return "a text";
    case FieldDescriptor::CPPTYPE_ENUM:
      return "a name";
    default:
      return "a number";
  }
}

// Gives `value` to `field`: Add for a list, Set otherwise.
template <typename Value, typename Setter, typename Adder>
void Put(Message* message, const FieldDescriptor* field, const Value& value, Setter set,
         Adder add) {
  const Reflection* reflection = message->GetReflection();
  if (field->is_repeated()) {
    (reflection->*add)(message, field, value);
  } else {
    (reflection->*set)(message, field, value);
  }
}

template <typename Number>
std::optional<Number> ParseNumber(const std::string& text) {
  Number number = 0;
  const size_t skip = text.size() > 1 && text[0] == '+' ? 1 : 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data() + skip, end, number);
  if (text.empty() || error != std::errc() || stop != end) return std::nullopt;
  return number;
}

template <typename Number, typename Setter, typename Adder>
bool PutNumber(Message* message, const FieldDescriptor* field, const std::string& text, Setter set,
               Adder add) {
  const auto number = ParseNumber<Number>(text);
  if (number) Put(message, field, *number, set, add);
  return number.has_value();
}

const ::google::protobuf::EnumValueDescriptor* FindEnumValue(const FieldDescriptor* field,
                                                             std::string text) {
  for (char& c : text) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
  return field->enum_type()->FindValueByName(text);
}

// Quotes around a text are taken off; there are no escapes.
void PutString(Message* message, const FieldDescriptor* field, std::string text) {
  const bool quoted =
      text.size() >= 2 && (text[0] == '"' || text[0] == '\'') && text.back() == text[0];
  if (quoted) text = text.substr(1, text.size() - 2);
  Put(message, field, text, &Reflection::SetString, &Reflection::AddString);
}

// Appends to a list or sets a single value. False if `text` is none that the field takes.
bool PutValue(Message* message, const FieldDescriptor* field, const std::string& text) {
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return PutNumber<int32_t>(message, field, text, &Reflection::SetInt32, &Reflection::AddInt32);
    case FieldDescriptor::CPPTYPE_INT64:
      return PutNumber<int64_t>(message, field, text, &Reflection::SetInt64, &Reflection::AddInt64);
    case FieldDescriptor::CPPTYPE_UINT32:
      return PutNumber<uint32_t>(message, field, text, &Reflection::SetUInt32,
                                 &Reflection::AddUInt32);
    case FieldDescriptor::CPPTYPE_UINT64:
      return PutNumber<uint64_t>(message, field, text, &Reflection::SetUInt64,
                                 &Reflection::AddUInt64);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return PutNumber<float>(message, field, text, &Reflection::SetFloat, &Reflection::AddFloat);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return PutNumber<double>(message, field, text, &Reflection::SetDouble,
                               &Reflection::AddDouble);
    case FieldDescriptor::CPPTYPE_BOOL:
      if (text != "true" && text != "false") return false;
      Put(message, field, text == "true", &Reflection::SetBool, &Reflection::AddBool);
      return true;
    case FieldDescriptor::CPPTYPE_STRING:
      PutString(message, field, text);
      return true;
    case FieldDescriptor::CPPTYPE_ENUM: {
      const auto* value = FindEnumValue(field, text);
      if (value != nullptr) Put(message, field, value, &Reflection::SetEnum, &Reflection::AddEnum);
      return value != nullptr;
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return false;
  }
  return false;
}

// "[a, b]" -> a, b; the comma separates, quotes or not. Any other text is a list of one.
std::vector<std::string> ListElements(const std::string& text) {
  if (text.size() < 2 || text.front() != '[' || text.back() != ']') return {text};
  std::vector<std::string> elements = Split(text.substr(1, text.size() - 2), ',');
  for (std::string& element : elements) element = Trim(element);
  if (elements.size() == 1 && elements[0].empty()) elements.clear();
  return elements;
}

// One --set on its way to its field.
class Override {
 public:
  Override(std::string_view assignment, LoadedRecipe* loaded)
      : assignment_(assignment), loaded_(loaded) {}

  Status Apply() {
    const size_t equals = assignment_.find('=');
    if (equals == std::string::npos) {
      return Bad("there is no '='; write it as --set optimizer.lr=3e-4");
    }
    value_ = Trim(std::string_view(assignment_).substr(equals + 1));
    const std::vector<std::string> parts = Split(Trim(assignment_.substr(0, equals)), '.');
    Message* message = &loaded_->recipe;
    for (size_t i = 0; i < parts.size(); ++i) {
      const auto part = ParsePart(parts[i]);
      if (!part) return Bad(parts[i] + " is no name with an index; write it as train_shards[0]");
      const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(part->name);
      if (field == nullptr) {
        return Bad(UnknownFieldHint(message->GetDescriptor(), prefix_, part->name));
      }
      if (part->index && !field->is_repeated()) return Bad(prefix_ + part->name + " is no list");
      if (i + 1 == parts.size()) return SetField(message, field, part->index);
      WEFT_RETURN_IF_ERROR(Enter(field, part->index, &message));
    }
    return OkStatus();
  }

 private:
  Status Bad(const std::string& problem) const {
    return InvalidArgument("--set " + assignment_ + ": " + problem);
  }

  // One past the end appends.
  Status CheckIndex(const Message& message, const FieldDescriptor* field, int index) const {
    const int size = message.GetReflection()->FieldSize(message, field);
    if (index <= size) return OkStatus();
    return Bad(prefix_ + field->name() + " has " + std::to_string(size) +
               " elements; the next index is " + std::to_string(size));
  }

  Status Enter(const FieldDescriptor* field, std::optional<int> index, Message** message) {
    const std::string path = prefix_ + field->name();
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      return Bad(path + " is " + ExpectedValue(field) + " and has no fields");
    }
    const Reflection* reflection = (*message)->GetReflection();
    if (!field->is_repeated()) {
      prefix_ = path + ".";
      *message = reflection->MutableMessage(*message, field);
      return OkStatus();
    }
    if (!index) return Bad(path + " is a list; write " + path + "[0]");
    WEFT_RETURN_IF_ERROR(CheckIndex(**message, field, *index));
    prefix_ = path + "[" + std::to_string(*index) + "].";
    const bool append = *index == reflection->FieldSize(**message, field);
    *message = append ? reflection->AddMessage(*message, field)
                      : reflection->MutableRepeatedMessage(*message, field, *index);
    return OkStatus();
  }

  Status SetField(Message* message, const FieldDescriptor* field, std::optional<int> index) {
    const std::string path = prefix_ + field->name();
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      std::vector<std::string> names;
      for (const FieldDescriptor* below : FieldsByNumber(field->message_type())) {
        names.push_back(below->name());
      }
      return Bad(path + " is a message; set one of its fields: " + Join(names, ", "));
    }
    if (!field->is_repeated()) {
      WEFT_RETURN_IF_ERROR(PutOrExplain(message, field, value_));
      loaded_->provenance[path] = "--set";
      return OkStatus();
    }
    if (index) return SetElement(message, field, *index);
    return SetList(message, field, ListElements(value_));
  }

  Status SetElement(Message* message, const FieldDescriptor* field, int index) {
    WEFT_RETURN_IF_ERROR(CheckIndex(*message, field, index));
    WEFT_RETURN_IF_ERROR(PutOrExplain(message, field, value_));
    const Reflection* reflection = message->GetReflection();
    const int last = reflection->FieldSize(*message, field) - 1;
    if (index < last) {
      reflection->SwapElements(message, field, index, last);
      reflection->RemoveLast(message, field);
    }
    loaded_->provenance[prefix_ + field->name() + "[" + std::to_string(index) + "]"] = "--set";
    return OkStatus();
  }

  Status SetList(Message* message, const FieldDescriptor* field,
                 const std::vector<std::string>& elements) {
    const std::string path = prefix_ + field->name();
    message->GetReflection()->ClearField(message, field);
    std::erase_if(loaded_->provenance,
                  [&path](const auto& entry) { return entry.first.starts_with(path + "["); });
    for (size_t i = 0; i < elements.size(); ++i) {
      WEFT_RETURN_IF_ERROR(PutOrExplain(message, field, elements[i]));
      loaded_->provenance[path + "[" + std::to_string(i) + "]"] = "--set";
    }
    return OkStatus();
  }

  Status PutOrExplain(Message* message, const FieldDescriptor* field,
                      const std::string& text) const {
    if (PutValue(message, field, text)) return OkStatus();
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
      return Bad(UnknownEnumHint(field, text));
    }
    return Bad(prefix_ + field->name() + " takes " + ExpectedValue(field) + ", not \"" + text +
               "\"");
  }

  std::string assignment_;
  LoadedRecipe* loaded_;
  std::string value_;
  std::string prefix_;
};

}  // namespace

Status ApplyOverride(std::string_view assignment, LoadedRecipe* loaded) {
  return Override(assignment, loaded).Apply();
}

}  // namespace weft
