#include "dataloader/conversation_set.h"

#include <algorithm>
#include <utility>

#include "dataloader/caption.h"

namespace weft {
namespace {

// LLaVA's int(mean * 255); CLIP's mean where the recipe has none.
std::array<uint8_t, 3> Background(const AugmentRecipe& augment) {
  constexpr double kClipMean[] = {0.48145466, 0.4578275, 0.40821073};
  std::array<uint8_t, 3> colour = {};
  for (int i = 0; i < 3; ++i) {
    const double mean = augment.mean_size() == 3 ? augment.mean(i) : kClipMean[i];
    colour[static_cast<size_t>(i)] = static_cast<uint8_t>(std::clamp(mean * 255, 0.0, 255.0));
  }
  return colour;
}

Status CheckOptions(const LoaderOptions& options) {
  if (options.image_size < 1) return InvalidArgument("image_size must be at least 1");
  if (options.patches < 1) return InvalidArgument("patches must be at least 1");
  if (options.context_length < options.patches + 2) {
    return InvalidArgument("context_length is " + std::to_string(options.context_length) +
                           ": a picture's " + std::to_string(options.patches) +
                           " positions need at least two more");
  }
  if (options.data.conversation().pack() == (options.pictures > 0)) return OkStatus();
  return InvalidArgument("data.conversation.pack is " +
                         std::string(options.pictures > 0 ? "off" : "on") + ", but a row has " +
                         std::to_string(options.pictures) + " pictures");
}

}  // namespace

StatusOr<ConversationSet> ConversationSet::Open(const LoaderOptions& options, SampleUse use) {
  WEFT_RETURN_IF_ERROR(CheckOptions(options));
  ConversationSet opened;
  opened.options = options;
  opened.image_extensions = LowerExtensions(options.data.image_extensions());
  opened.text_extensions = LowerExtensions(options.data.text_extension());
  opened.json_extensions = LowerExtensions(options.data.conversation().json_extension());
  opened.background = Background(options.data.augment());
  WEFT_ASSIGN_OR_RETURN(opened.set,
                        DataSet::Open(ShardPatterns(options, use), ShardField(options, use)));
  // The lists were made by decoding pictures that are whole.
  if (options.data.augment().min_rows() == 1) opened.set->UsePictureChecks(opened.image_extensions);
  StatusOr<std::unique_ptr<BpeVocabulary>> vocabulary =
      BpeVocabulary::Load(options.data.vocabulary(), options.vocab_size, BpeStyle::kLlava);
  if (!vocabulary.ok()) return vocabulary.status().WithContext("data.vocabulary");
  opened.vocabulary = std::move(*vocabulary);
  return opened;
}

StatusOr<TokenRow> ConversationReader::ReadRow(const SampleRef& ref) {
  const auto id = static_cast<int64_t>(ref.id);
  if (conversations_.HasCaption(id)) {
    WEFT_RETURN_IF_ERROR(ReadCaption(*conversations_.set, conversations_.options,
                                     conversations_.text_extensions, ref, &text_));
    TokenRow row = PlainRow(text_, &tokenizer_);
    WEFT_RETURN_IF_ERROR(Widen(&row));
    return row;
  }
  return ConversationRow(id);
}

StatusOr<TokenRow> ConversationReader::ConversationRow(int64_t id) {
  WEFT_RETURN_IF_ERROR(conversations_.set->ReadMember(id, conversations_.json_extensions, &text_));
  WEFT_ASSIGN_OR_RETURN(const std::vector<Turn> turns, ParseConversation(text_));
  // The second turn is the first answer: turns alternate and begin with a question.
  TokenRow row = conversations_.plain() ? PlainRow(turns[1].text, &tokenizer_)
                                        : V1Row(conversations_.options.data.conversation().system(),
                                                turns, &tokenizer_);
  WEFT_RETURN_IF_ERROR(Widen(&row));
  return row;
}

Status ConversationReader::Widen(TokenRow* row) const {
  const auto length = static_cast<size_t>(conversations_.options.context_length);
  WEFT_RETURN_IF_ERROR(WidenPicture(conversations_.options.patches, length, row));
  if (CountTargets(*row) > 0) return OkStatus();
  return InvalidArgument("nothing to learn within " + std::to_string(length) + " tokens");
}

StatusOr<RowNeeds> ConversationReader::Measure(int64_t id) {
  RowNeeds needs;
  const auto add = [&needs](const TokenRow& row) {
    needs.tokens = std::max(needs.tokens, static_cast<int32_t>(row.ids.size()));
    needs.picture = needs.picture || row.picture_at >= 0;
  };
  const DataSet& set = *conversations_.set;
  if (conversations_.HasCaption(id)) {
    WEFT_ASSIGN_OR_RETURN(
        const std::vector<std::string> captions,
        ReadCaptions(set, conversations_.options, conversations_.text_extensions, id));
    for (const std::string& caption : captions) {
      TokenRow row = PlainRow(caption, &tokenizer_);
      WEFT_RETURN_IF_ERROR(Widen(&row));
      add(row);
    }
  } else {
    WEFT_ASSIGN_OR_RETURN(const TokenRow row, ConversationRow(id));
    add(row);
  }
  if (needs.picture && !set.Has(id, conversations_.image_extensions))
    return Corruption("the conversation asks for a picture, but its sample has none");
  return needs;
}

StatusOr<std::string> ConversationReader::Fingerprint(int64_t id) {
  const DataSet& set = *conversations_.set;
  const std::vector<std::string>& extensions = conversations_.HasCaption(id)
                                                   ? conversations_.text_extensions
                                                   : conversations_.json_extensions;
  std::string text = set.Has(id, conversations_.image_extensions) ? "picture" : "none";
  const Status read = set.ReadMember(id, extensions, &text_);
  if (!read.ok() && !IsBadSample(read)) return read;
  if (!read.ok()) return text + "\nbad\n";
  return text + "\n" + std::to_string(text_.size()) + "\n" + text_;
}

Status ConversationReader::DecodePicture(int64_t id, bool wants_pixels, uint8_t* planes) {
  const int size = conversations_.options.image_size;
  const DataSet& set = *conversations_.set;
  WEFT_ASSIGN_OR_RETURN(const bool decode, MustDecode(set, id, wants_pixels));
  if (!decode && set.Has(id, conversations_.image_extensions)) return OkStatus();
  WEFT_RETURN_IF_ERROR(set.ReadMember(id, conversations_.image_extensions, &image_));
  const bool pad = conversations_.options.data.conversation().fit() == ConversationRecipe::PAD;
  return CheckedResult(set,
                       pad ? cooker_.CookPadded(image_, conversations_.background, size, planes)
                           : cooker_.CookForEval(image_, size, planes));
}

}  // namespace weft
