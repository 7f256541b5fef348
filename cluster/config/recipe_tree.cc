#include "cluster/config/recipe_tree.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <charconv>

#include "cluster/base/text.h"
#include "cluster/config/options.pb.h"
#include "cluster/config/recipe.pb.h"

namespace weft {
namespace {

using ::google::protobuf::Descriptor;
using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::Message;
using ::google::protobuf::Reflection;

bool IsMessage(const FieldDescriptor* field) {
  return field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
}

// 15 digits if they read back equal, else 16, else 17; never the locale's decimal comma.
std::string DoubleText(double value) {
  char text[40];
  std::string shortest;
  for (int digits = 15; digits <= 17; ++digits) {
    shortest.assign(
        text,
        std::to_chars(text, text + sizeof text, value, std::chars_format::general, digits).ptr);
    double back = 0;
    std::from_chars(shortest.data(), shortest.data() + shortest.size(), back);
    if (back == value) break;
  }
  return shortest;
}

std::string ToLower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  return lower;
}

// The nearest candidate, upper and lower case alike.
std::string NearestIgnoringCase(std::string_view word, const std::vector<std::string>& candidates) {
  std::vector<std::string> lower;
  for (const std::string& candidate : candidates) lower.push_back(ToLower(candidate));
  const std::string nearest = NearestName(ToLower(word), lower);
  const auto found = std::find(lower.begin(), lower.end(), nearest);
  return found == lower.end() ? "" : candidates[static_cast<size_t>(found - lower.begin())];
}

// Puts the scalar default of `field`. REQUIRES: field->has_default_value().
void SetToDefault(Message* message, const FieldDescriptor* field) {
  const Reflection* reflection = message->GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return reflection->SetInt32(message, field, field->default_value_int32());
    case FieldDescriptor::CPPTYPE_INT64:
      return reflection->SetInt64(message, field, field->default_value_int64());
    case FieldDescriptor::CPPTYPE_UINT32:
      return reflection->SetUInt32(message, field, field->default_value_uint32());
    case FieldDescriptor::CPPTYPE_UINT64:
      return reflection->SetUInt64(message, field, field->default_value_uint64());
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return reflection->SetDouble(message, field, field->default_value_double());
    case FieldDescriptor::CPPTYPE_FLOAT:
      return reflection->SetFloat(message, field, field->default_value_float());
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection->SetBool(message, field, field->default_value_bool());
    case FieldDescriptor::CPPTYPE_ENUM:
      return reflection->SetEnum(message, field, field->default_value_enum());
    case FieldDescriptor::CPPTYPE_STRING:
      return reflection->SetString(message, field, field->default_value_string());
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return;
  }
}

void FillDefaults(Message* message) {
  const Reflection* reflection = message->GetReflection();
  for (const FieldDescriptor* field : FieldsByNumber(message->GetDescriptor())) {
    if (field->is_repeated()) {
      const int size = reflection->FieldSize(*message, field);
      for (int i = 0; IsMessage(field) && i < size; ++i) {
        FillDefaults(reflection->MutableRepeatedMessage(message, field, i));
      }
      if (size > 0) continue;
      for (const double value : field->options().GetRepeatedExtension(list_default)) {
        reflection->AddDouble(message, field, value);
      }
    } else if (IsMessage(field)) {
      // A family that was not chosen stays away.
      if (field->containing_oneof() != nullptr && !reflection->HasField(*message, field)) continue;
      FillDefaults(reflection->MutableMessage(message, field));
    } else if (field->has_default_value() && !reflection->HasField(*message, field)) {
      SetToDefault(message, field);
    }
  }
}

// The value that an unset `field` stands for, as text; "" if there is none.
std::string DefaultText(const Message& message, const FieldDescriptor* field, int index) {
  if (field->is_repeated()) {
    const auto& list = field->options().GetRepeatedExtension(list_default);
    return index < list.size() ? DoubleText(list.Get(index)) : "";
  }
  if (!field->has_default_value()) return "";
  const std::unique_ptr<Message> empty(message.New());
  return ValueText(*empty, field, -1);
}

void AddLeaves(const Message& message, const std::string& prefix, bool outside,
               std::vector<RecipeLeaf>* leaves) {
  const Reflection* reflection = message.GetReflection();
  for (const FieldDescriptor* field : FieldsByNumber(message.GetDescriptor())) {
    const bool repeated = field->is_repeated();
    const int count = repeated ? reflection->FieldSize(message, field)
                               : static_cast<int>(reflection->HasField(message, field));
    const bool field_outside = outside || field->options().GetExtension(outside_hash);
    for (int i = 0; i < count; ++i) {
      const std::string path =
          prefix + field->name() + (repeated ? "[" + std::to_string(i) + "]" : "");
      if (IsMessage(field)) {
        const Message& below = repeated ? reflection->GetRepeatedMessage(message, field, i)
                                        : reflection->GetMessage(message, field);
        AddLeaves(below, path + ".", field_outside, leaves);
        continue;
      }
      const int index = repeated ? i : -1;
      std::string text = ValueText(message, field, index);
      const bool is_default = text == DefaultText(message, field, index);
      leaves->push_back({path, std::move(text), is_default, field_outside});
    }
  }
}

// Paths of all fields named `name` below `message`.
void FindEverywhere(const Descriptor* message, const std::string& prefix, std::string_view name,
                    std::vector<std::string>* found) {
  for (const FieldDescriptor* field : FieldsByNumber(message)) {
    if (field->name() == name) found->push_back(prefix + field->name());
    if (IsMessage(field)) {
      FindEverywhere(field->message_type(),
                     prefix + field->name() + (field->is_repeated() ? "[0]." : "."), name, found);
    }
  }
}

}  // namespace

std::vector<const FieldDescriptor*> FieldsByNumber(const Descriptor* message) {
  std::vector<const FieldDescriptor*> fields;
  for (int i = 0; i < message->field_count(); ++i) fields.push_back(message->field(i));
  std::sort(fields.begin(), fields.end(), [](const FieldDescriptor* a, const FieldDescriptor* b) {
    return a->number() < b->number();
  });
  return fields;
}

std::string ValueText(const Message& message, const FieldDescriptor* field, int index) {
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
    const Reflection* reflection = message.GetReflection();
    return DoubleText(index < 0 ? reflection->GetDouble(message, field)
                                : reflection->GetRepeatedDouble(message, field, index));
  }
  std::string text;
  ::google::protobuf::TextFormat::PrintFieldValueToString(message, field, index, &text);
  return text;
}

Recipe WithDefaults(const Recipe& recipe) {
  Recipe filled = recipe;
  FillDefaults(&filled);
  return filled;
}

std::vector<RecipeLeaf> RecipeLeaves(const Recipe& recipe) {
  std::vector<RecipeLeaf> leaves;
  AddLeaves(recipe, "", false, &leaves);
  return leaves;
}

std::string UnknownFieldHint(const Descriptor* message, std::string_view prefix,
                             std::string_view name) {
  std::vector<std::string> names;
  for (const FieldDescriptor* field : FieldsByNumber(message)) names.push_back(field->name());
  const std::string nearest = NearestIgnoringCase(name, names);
  const bool same = ToLower(nearest) == ToLower(name);
  std::vector<std::string> elsewhere;
  if (!same) FindEverywhere(Recipe::descriptor(), "", name, &elsewhere);
  if (!elsewhere.empty()) return "no such field here; did you mean " + elsewhere.front() + "?";
  if (!nearest.empty()) {
    return "no such field; did you mean " + std::string(prefix) + nearest + "?";
  }
  return "no such field; the fields here are " + Join(names, ", ");
}

std::string UnknownEnumHint(const FieldDescriptor* field, std::string_view name) {
  std::vector<std::string> names;
  for (int i = 0; i < field->enum_type()->value_count(); ++i) {
    names.push_back(field->enum_type()->value(i)->name());
  }
  const std::string nearest = NearestIgnoringCase(name, names);
  return std::string(name) + " is none of " + Join(names, ", ") +
         (nearest.empty() ? "" : "; did you mean " + nearest + "?");
}

}  // namespace weft
