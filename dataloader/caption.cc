#include "dataloader/caption.h"

#include <nlohmann/json.hpp>

#include "cluster/base/philox.h"

namespace weft {
namespace {

using Json = nlohmann::json;

// The field's value: a text, or a list that is not empty.
StatusOr<Json> FieldOf(const std::string& text, const std::string& field) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Corruption("its text member is no JSON object");
  const auto found = json.find(field);
  if (found == json.end()) return Corruption("no field '" + field + "' in its JSON");
  if (found->is_string() || (found->is_array() && !found->empty())) return *found;
  return Corruption("field '" + field + "' is neither a text nor a list of texts");
}

StatusOr<std::string> TextOf(const Json& value, const std::string& field) {
  if (value.is_string()) return value.get<std::string>();
  return Corruption("field '" + field + "' has an entry that is no text");
}

}  // namespace

Status ReadCaption(const DataSet& set, const LoaderOptions& options,
                   const std::vector<std::string>& extensions, const SampleRef& ref,
                   std::string* text) {
  WEFT_RETURN_IF_ERROR(set.ReadMember(static_cast<int64_t>(ref.id), extensions, text));
  if (options.text_field.empty()) return OkStatus();
  WEFT_ASSIGN_OR_RETURN(const Json value, FieldOf(*text, options.text_field));
  const KeyedRandom random(options.seed, "caption:" + options.set_name, ref.epoch);
  const Json& drawn = value.is_array() ? value[random.Below(value.size(), ref.id, 0)] : value;
  WEFT_ASSIGN_OR_RETURN(*text, TextOf(drawn, options.text_field));
  return OkStatus();
}

StatusOr<std::vector<std::string>> ReadCaptions(const DataSet& set, const LoaderOptions& options,
                                                const std::vector<std::string>& extensions,
                                                int64_t id) {
  std::string text;
  WEFT_RETURN_IF_ERROR(set.ReadMember(id, extensions, &text));
  if (options.text_field.empty()) return std::vector<std::string>{std::move(text)};
  WEFT_ASSIGN_OR_RETURN(Json value, FieldOf(text, options.text_field));
  if (value.is_string()) value = Json::array({value});
  std::vector<std::string> captions;
  for (const Json& entry : value) {
    WEFT_ASSIGN_OR_RETURN(std::string caption, TextOf(entry, options.text_field));
    captions.push_back(std::move(caption));
  }
  return captions;
}

}  // namespace weft
