#include "cluster/config/print_recipe.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <algorithm>

#include "cluster/config/recipe_tree.h"

namespace weft {
namespace {

using ::google::protobuf::FieldDescriptor;
using ::google::protobuf::Message;
using ::google::protobuf::Reflection;

// Comments stand in one column where the values are short enough.
constexpr size_t kCommentColumn = 40;

class Printer {
 public:
  // `provenance` null: no comments.
  explicit Printer(const Provenance* provenance) : provenance_(provenance) {}

  void Print(const Message& message, const std::string& prefix, const std::string& indent) {
    const Reflection* reflection = message.GetReflection();
    for (const FieldDescriptor* field : FieldsByNumber(message.GetDescriptor())) {
      const bool repeated = field->is_repeated();
      const int count = repeated ? reflection->FieldSize(message, field)
                                 : static_cast<int>(reflection->HasField(message, field));
      for (int i = 0; i < count; ++i) {
        const std::string path =
            prefix + field->name() + (repeated ? "[" + std::to_string(i) + "]" : "");
        if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
          AddValue(indent + field->name() + ": " + ValueText(message, field, repeated ? i : -1),
                   path);
          continue;
        }
        text_ += indent + field->name() + " {\n";
        Print(repeated ? reflection->GetRepeatedMessage(message, field, i)
                       : reflection->GetMessage(message, field),
              path + ".", indent + "  ");
        text_ += indent + "}\n";
      }
    }
  }

  std::string Take() && { return std::move(text_); }

 private:
  void AddValue(std::string line, const std::string& path) {
    if (provenance_ != nullptr) {
      const auto found = provenance_->find(path);
      line.resize(std::max(line.size() + 2, kCommentColumn), ' ');
      line += "# " + (found == provenance_->end() ? "default" : found->second);
    }
    text_ += line + "\n";
  }

  const Provenance* provenance_;
  std::string text_;
};

std::string Print(const Recipe& recipe, const Provenance* provenance) {
  Printer printer(provenance);
  printer.Print(WithDefaults(recipe), "", "");
  return std::move(printer).Take();
}

}  // namespace

std::string PrintRecipe(const LoadedRecipe& loaded) {
  return Print(loaded.recipe, &loaded.provenance);
}

std::string RecipeText(const Recipe& recipe) { return Print(recipe, nullptr); }

}  // namespace weft
