// `--set PATH=VALUE`: one value of a recipe, from the command line.
//
//   optimizer.lr=3e-4                 a single value; the messages on the way are created
//   precision=bf16                    an enum by name, upper or lower case
//   data.vocabulary=build/v.txt       a string, with or without quotes (no escapes)
//   data.train_shards[0]=a.tar        one element; the index may be one past the end
//   data.train_shards=a.tar           a whole list of one; [a.tar, b.tar] of several; [] of none
//   init_from[0].checkpoint=runs/a    a field of a message in a list
//
// Errors: InvalidArgument; the message says which --set, what is wrong with it and the nearest valid name.
// Thread rule: pure functions.
#pragma once

#include <string>
#include <string_view>

#include "cluster/base/status.h"
#include "cluster/config/recipe_loader.h"

namespace weft {

// Sets the value in `loaded->recipe` and its origin to "--set".
Status ApplyOverride(std::string_view assignment, LoadedRecipe* loaded);

}  // namespace weft
