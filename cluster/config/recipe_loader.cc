#include "cluster/config/recipe_loader.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <optional>

#include "cluster/base/file_system.h"
#include "cluster/base/text.h"
#include "cluster/config/overrides.h"
#include "cluster/config/recipe_tree.h"
#include "cluster/config/text_positions.h"

namespace weft {
namespace {

// A recipe is a few kilobytes; a shard or a checkpoint named by mistake is not.
constexpr size_t kMaxRecipeBytes = 1 << 20;

struct ParseError {
  TextPosition position;
  std::string message;
};

class FirstError : public ::google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, int column, const std::string& message) override {
    if (!error) error = ParseError{{line + 1, column + 1}, message};
  }
  void AddWarning(int, int, const std::string&) override {}

  std::optional<ParseError> error;
};

// Bytes that a terminal could take for commands become '?'.
std::string Printable(std::string text) {
  for (char& c : text) {
    if ((c >= 0 && c < ' ') || c == 0x7f) c = '?';
  }
  return text;
}

// The text between the first pair of quotes after `marker`; "" if there is none.
std::string QuotedAfter(const std::string& message, const std::string& marker) {
  const size_t at = message.find(marker + "\"");
  if (at == std::string::npos) return "";
  const size_t begin = at + marker.size() + 1;
  const size_t end = message.find('"', begin);
  return end == std::string::npos ? "" : message.substr(begin, end - begin);
}

// The parser's words say what is wrong, but not under which path and what was meant.
std::string Explain(const ParseError& error, const std::string& source, std::string_view text) {
  const TextScan scan = ScanText(text, Recipe::descriptor(), error.position);
  const std::string unknown_field = QuotedAfter(error.message, "has no field named ");
  const std::string unknown_value = QuotedAfter(error.message, "Unknown enumeration value of ");
  std::string named = unknown_field.empty() ? QuotedAfter(error.message, "ield ") : unknown_field;
  TextPosition position = error.position;
  // An error that names its field is found after it, one about a value at the value.
  if (!named.empty() && named == scan.field_name) position = scan.field_position;
  if (named.empty() && scan.value_open) named = scan.field_name;

  std::string problem = error.message;
  if (problem.ends_with("got: ")) problem = "the text ends inside a message; is a '}' missing?";
  if (!unknown_field.empty() && scan.message != nullptr) {
    problem = UnknownFieldHint(scan.message, scan.prefix, unknown_field);
  } else if (!unknown_value.empty() && scan.field != nullptr &&
             scan.field->enum_type() != nullptr) {
    problem = UnknownEnumHint(scan.field, unknown_value);
  }
  return Printable(source + ":" + std::to_string(position.line) + ":" +
                   std::to_string(position.column) + ": " +
                   (named.empty() ? "" : scan.prefix + named + ": ") + problem);
}

// "; did you mean DIR/NAME?" for the file beside `path` with the nearest name.
std::string NearestFile(const std::string& path) {
  const std::string parent = ParentPath(path);
  const auto names = PosixFileSystem()->ListDir(parent);
  if (!names.ok()) return "";
  const std::string nearest = NearestName(path.substr(path.find_last_of('/') + 1), *names);
  if (nearest.empty()) return "";
  return "; did you mean " + (parent == "." ? nearest : JoinPath(parent, nearest)) + "?";
}

}  // namespace

StatusOr<LoadedRecipe> ParseRecipe(std::string_view text, const std::string& source,
                                   const std::vector<std::string>& overrides) {
  if (text.size() > kMaxRecipeBytes) {
    return InvalidArgument(source + " has " + HumanBytes(static_cast<double>(text.size())) +
                           "; a recipe is a text of at most " + HumanBytes(kMaxRecipeBytes));
  }
  LoadedRecipe loaded;
  FirstError errors;
  ::google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&errors);
  if (!parser.ParseFromString(std::string(text), &loaded.recipe)) {
    if (!errors.error) return InvalidArgument(source + " is no recipe in protobuf text format");
    return InvalidArgument(Explain(*errors.error, source, text));
  }
  for (const TextValue& value : ScanText(text, Recipe::descriptor()).values) {
    loaded.provenance[value.path] = source + ":" + std::to_string(value.position.line);
  }
  // Before the overrides, so that one element of a default list can be set; after them for messages that they add.
  loaded.recipe = WithDefaults(loaded.recipe);
  for (const std::string& assignment : overrides) {
    WEFT_RETURN_IF_ERROR(ApplyOverride(assignment, &loaded));
  }
  loaded.recipe = WithDefaults(loaded.recipe);
  return loaded;
}

StatusOr<LoadedRecipe> LoadRecipe(const LoadOptions& options) {
  const auto text = PosixFileSystem()->ReadFile(options.path);
  if (text.status().code() == StatusCode::kNotFound) {
    return InvalidArgument("no recipe " + options.path + NearestFile(options.path));
  }
  if (!text.ok()) return InvalidArgument("cannot read the recipe: " + text.status().message());
  return ParseRecipe(*text, options.path, options.overrides);
}

}  // namespace weft
