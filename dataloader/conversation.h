// Conversations about a picture as one row of tokens, as LLaVA builds it (Liu et al. 2023): the picture's placeholder is
// widened to the positions that its patches take, and only what the assistant says has labels.
//
//   plain  <s> PICTURE " caption" "\n"; all after the picture is learned; no </s>
//   v1     <s> "SYSTEM USER: " PICTURE "\nquestion ASSISTANT:" " answer" </s> "USER: question ASSISTANT:" " answer" </s> ...;
//          answers and their </s> are learned
//
// Each piece of text is cut into tokens by itself; caption and answers begin with a space, as a word after another does.
//
// Errors: Corruption (a broken conversation), InvalidArgument (nothing to learn, a picture that does not fit).
// Thread rule: parsing is pure; the tokenizer belongs to one thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/bpe_tokenizer.h"

namespace weft {

// Stands for the picture in ids that are not yet widened.
constexpr int32_t kPicturePlaceholder = -200;

struct Turn {
  bool human = false;
  // Without placeholders and the white space at its ends.
  std::string text;
  // The picture comes before this turn's text.
  bool picture = false;
};

// {"conversations": [{"from": "human" | "gpt", "value": "..."}, ...]}; other members are ignored. A first turn that is not
// human is dropped, a last question without an answer too; turns must alternate, and one picture is the most.
StatusOr<std::vector<Turn>> ParseConversation(std::string_view json);

struct TokenRow {
  std::vector<int32_t> ids;
  std::vector<int32_t> labels;
  // -1: no picture.
  int32_t picture_at = -1;
};

TokenRow PlainRow(std::string_view caption, BpeTokenizer* tokenizer);
TokenRow V1Row(std::string_view system, const std::vector<Turn>& turns, BpeTokenizer* tokenizer);

// Widens the placeholder to `patches` positions of id 0 without a label, then cuts the row to `length`.
Status WidenPicture(int patches, size_t length, TokenRow* row);
// Labels that a loss counts.
int32_t CountTargets(const TokenRow& row);

}  // namespace weft
