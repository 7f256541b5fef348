// Conversations on disk, and one of them as a row of tokens with its picture: what packed and unpacked rows share.
//
// Errors: Corruption, InvalidArgument: the conversation is bad, for every consumer; others (I/O) end the run.
// Thread rule: a set is immutable once open; a reader belongs to one thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/augment.h"
#include "dataloader/best_fit.h"
#include "dataloader/bpe_tokenizer.h"
#include "dataloader/bpe_vocabulary.h"
#include "dataloader/conversation.h"
#include "dataloader/data_set.h"
#include "dataloader/loader_options.h"
#include "dataloader/order.h"
#include "dataloader/sample_source.h"

namespace weft {

struct ConversationSet {
  // Errors: NotFound, Corruption, InvalidArgument: name the shard or the recipe's field.
  static StatusOr<ConversationSet> Open(const LoaderOptions& options, SampleUse use);

  LoaderOptions options;
  std::unique_ptr<DataSet> set;
  std::unique_ptr<BpeVocabulary> vocabulary;
  std::vector<std::string> image_extensions;
  std::vector<std::string> text_extensions;
  std::vector<std::string> json_extensions;
  // Of the square around a picture; LLaVA's is the mean colour.
  std::array<uint8_t, 3> background = {};

  bool plain() const { return options.data.conversation().version() == ConversationRecipe::PLAIN; }
  // Whether the text is a caption and no conversation.
  bool HasCaption(int64_t id) const { return plain() && set->Has(id, text_extensions); }
  // Bytes of a picture as it is decoded.
  size_t picture_bytes() const {
    return 3 * static_cast<size_t>(options.image_size) * static_cast<size_t>(options.image_size);
  }
};

class ConversationReader {
 public:
  explicit ConversationReader(const ConversationSet& conversations)
      : conversations_(conversations), tokenizer_(*conversations.vocabulary) {}

  // Widened, cut to context_length, with at least one label.
  StatusOr<TokenRow> ReadRow(const SampleRef& ref);
  // What the conversation takes of a row, in any epoch: of several captions the longest counts. A conversation that asks
  // for a picture that its sample does not have is bad.
  StatusOr<RowNeeds> Measure(int64_t id);
  // The bytes that ReadRow reads, and whether there is a picture: what Measure depends on.
  StatusOr<std::string> Fingerprint(int64_t id);
  // Fills picture_bytes() of planes, or only learns whether they could be: consumers that read different fields must agree
  // on which samples are bad (MustDecode).
  Status DecodePicture(int64_t id, bool wants_pixels, uint8_t* planes);

 private:
  Status Widen(TokenRow* row) const;
  StatusOr<TokenRow> ConversationRow(int64_t id);

  const ConversationSet& conversations_;
  BpeTokenizer tokenizer_;
  ImageCooker cooker_{conversations_.options.data.augment()};
  std::string image_;
  std::string text_;
};

}  // namespace weft
