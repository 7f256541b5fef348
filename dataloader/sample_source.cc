#include "dataloader/sample_source.h"

#include <algorithm>
#include <cctype>

#include "cluster/base/text.h"
#include "dataloader/data_set.h"

namespace weft {

StatusOr<std::unique_ptr<SampleSource>> OpenSampleSource(const LoaderOptions& options,
                                                         SampleUse use) {
  switch (options.family) {
    case SampleFamily::kImageText:
      return OpenImageTextSource(options, use);
    case SampleFamily::kMaskedText:
      return OpenMaskedTextSource(options, use);
    case SampleFamily::kConversation:
      return OpenConversationSource(options, use);
  }
  return Internal("no such family of samples");
}

bool IsBadSample(const Status& status) {
  return status.code() == StatusCode::kCorruption || status.code() == StatusCode::kInvalidArgument;
}

std::vector<std::string> LowerExtensions(const std::string& list) {
  std::vector<std::string> extensions = Split(list, ';');
  for (std::string& extension : extensions) {
    std::transform(extension.begin(), extension.end(), extension.begin(),
                   [](unsigned char c) { return std::tolower(c); });
  }
  return extensions;
}

std::vector<std::string> ShardPatterns(const LoaderOptions& options, SampleUse use) {
  const auto& patterns =
      use == SampleUse::kEval ? options.data.eval_shards() : options.data.train_shards();
  return {patterns.begin(), patterns.end()};
}

std::string ShardField(const LoaderOptions& options, SampleUse use) {
  return use == SampleUse::kEval ? "data.eval_shards" : options.set_field;
}

StatusOr<bool> MustDecode(const DataSet& set, int64_t id, bool wants_pixels) {
  if (!set.pictures_checked()) return true;
  if (set.HasBadPicture(id))
    return Corruption("its picture does not decode (says the shard's .checked file)");
  return wants_pixels;
}

Status CheckedResult(const DataSet& set, const Status& decoded) {
  if (decoded.ok() || !set.pictures_checked()) return decoded;
  return Unavailable("a picture that the shard's .checked file calls good does not decode (" +
                     decoded.message() + "): run `weft data check` again");
}

bool WantsField(const LoaderOptions& options, std::string_view name) {
  return !options.fields ||
         std::find(options.fields->begin(), options.fields->end(), name) != options.fields->end();
}

}  // namespace weft
