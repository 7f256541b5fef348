#include "dataloader/recipe_options.h"

#include "models/spec/llava_spec.h"

namespace weft {
namespace {

Status SetLlava(const Recipe& recipe, LoaderOptions* options) {
  WEFT_ASSIGN_OR_RETURN(const LlavaConfig config, ResolveLlava(recipe));
  options->family = SampleFamily::kConversation;
  options->image_size = static_cast<int>(config.image_size);
  options->patches = static_cast<int>(config.patches());
  options->pictures = static_cast<int>(config.pictures);
  options->context_length = static_cast<int>(config.max_length);
  options->vocab_size = recipe.model().llava().vocab_size();
  return OkStatus();
}

}  // namespace

StatusOr<LoaderOptions> LoaderOptionsOf(const Recipe& recipe) {
  LoaderOptions options;
  options.data = recipe.data();
  options.batch = recipe.batch();
  options.seed = recipe.seed();
  const ModelRecipe& model = recipe.model();
  switch (model.family_case()) {
    case ModelRecipe::kClip:
      options.family = SampleFamily::kImageText;
      options.image_size = model.clip().image_size();
      options.context_length = model.clip().context_length();
      options.vocab_size = model.clip().vocab_size();
      break;
    case ModelRecipe::kRoberta:
      options.family = SampleFamily::kMaskedText;
      options.context_length = model.roberta().max_length();
      options.vocab_size = model.roberta().vocab_size();
      break;
    case ModelRecipe::kLlava:
      WEFT_RETURN_IF_ERROR(SetLlava(recipe, &options));
      break;
    case ModelRecipe::FAMILY_NOT_SET:
      break;
  }
  return options;
}

}  // namespace weft
