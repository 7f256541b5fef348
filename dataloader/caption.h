// A sample's caption: the text of a member, or a field of a JSON member.
//
// Errors: Corruption (no such member; no such field). Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dataloader/data_set.h"
#include "dataloader/loader_options.h"
#include "dataloader/order.h"

namespace weft {

// `extensions` are those of the member. options.text_field: a string, or a list of strings of which each epoch draws one.
Status ReadCaption(const DataSet& set, const LoaderOptions& options,
                   const std::vector<std::string>& extensions, const SampleRef& ref,
                   std::string* text);
// All that an epoch may draw from. Corruption: one of them is no text.
StatusOr<std::vector<std::string>> ReadCaptions(const DataSet& set, const LoaderOptions& options,
                                                const std::vector<std::string>& extensions,
                                                int64_t id);

}  // namespace weft
