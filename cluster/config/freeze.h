// The recipe as a run directory keeps it: all defaults written out, so that a later version with other defaults reads
// the same recipe, under a header with a checksum.
//
// Thread rule: pure functions.
#pragma once

#include <string>
#include <string_view>

#include "cluster/base/file_system.h"
#include "cluster/base/status.h"
#include "cluster/config/recipe.pb.h"

namespace weft {

std::string FrozenText(const Recipe& recipe);
// Corruption if the text is not, to the byte, what FrozenText made; `source` names it in messages.
StatusOr<Recipe> ParseFrozen(std::string_view text, const std::string& source);

Status WriteFrozenRecipe(FileSystem* fs, const std::string& path, const Recipe& recipe);
// Errors: NotFound, Corruption; FailedPrecondition if this version of Weft does not know all of its fields.
StatusOr<Recipe> ReadFrozenRecipe(FileSystem* fs, const std::string& path);

}  // namespace weft
