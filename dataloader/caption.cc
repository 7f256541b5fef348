#include "dataloader/caption.h"

#include <nlohmann/json.hpp>

#include "cluster/base/philox.h"

namespace weft {

Status ReadCaption(const DataSet& set, const LoaderOptions& options,
                   const std::vector<std::string>& extensions, const SampleRef& ref,
                   std::string* text) {
  WEFT_RETURN_IF_ERROR(set.ReadMember(static_cast<int64_t>(ref.id), extensions, text));
  if (options.text_field.empty()) return OkStatus();
  const auto json = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Corruption("its text member is no JSON object");
  const auto found = json.find(options.text_field);
  if (found == json.end()) return Corruption("no field '" + options.text_field + "' in its JSON");
  if (found->is_string()) {
    *text = found->get<std::string>();
    return OkStatus();
  }
  if (!found->is_array() || found->empty())
    return Corruption("field '" + options.text_field + "' is neither a text nor a list of texts");
  const KeyedRandom random(options.seed, "caption:" + options.set_name, ref.epoch);
  const nlohmann::json& drawn = (*found)[random.Below(found->size(), ref.id, 0)];
  if (!drawn.is_string())
    return Corruption("field '" + options.text_field + "' has an entry that is no text");
  *text = drawn.get<std::string>();
  return OkStatus();
}

}  // namespace weft
