// A recipe as a flat list of named values, by reflection: what the printer, the hash, the differences and the messages
// about wrong values are made from.
//
// Paths: "optimizer.lr", "data.augment.mean[1]", "init_from[0].checkpoint".
// Thread rule: pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace google::protobuf {
class Descriptor;
class FieldDescriptor;
class Message;
}  // namespace google::protobuf

namespace weft {

class Recipe;

struct RecipeLeaf {
  std::string path;
  // As text format writes it: 0.001, "a.tar", BF16. Equal values have equal texts.
  std::string text;
  // The value is what WithDefaults puts there.
  bool is_default = false;
  // See options.proto; inherited from the messages around the field.
  bool outside_hash = false;
};

// The same recipe with every default written out. Fields that have none (name, optimizer.lr) stay unset.
Recipe WithDefaults(const Recipe& recipe);

// Every value that is set, messages opened, in the order of field numbers.
std::vector<RecipeLeaf> RecipeLeaves(const Recipe& recipe);

// The fields of a message in the order of their numbers.
std::vector<const google::protobuf::FieldDescriptor*> FieldsByNumber(
    const google::protobuf::Descriptor* message);

// One value (`index` for a list, else -1) as text format writes it. Doubles: as many digits as it takes to read
// back equal.
std::string ValueText(const google::protobuf::Message& message,
                      const google::protobuf::FieldDescriptor* field, int index);

// "no such field; did you mean optimizer.lr?": the nearest field of the message at `prefix` ("", "optimizer."), else
// the same name elsewhere in the recipe, else the list of valid names.
std::string UnknownFieldHint(const google::protobuf::Descriptor* message, std::string_view prefix,
                             std::string_view name);
// "BF61 is none of FP32, BF16, FP64; did you mean BF16?"
std::string UnknownEnumHint(const google::protobuf::FieldDescriptor* field, std::string_view name);

}  // namespace weft
