#include "dataloader/conversation.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "dataloader/micro_batch.h"

namespace weft {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kPlaceholder = "<image>";
constexpr std::string_view kSpaces = " \t\r\n\v\f";

std::string Strip(std::string_view text) {
  const size_t begin = text.find_first_not_of(kSpaces);
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(kSpaces) - begin + 1));
}

// Removes the placeholders; how many there were.
int TakePlaceholders(std::string* text) {
  int count = 0;
  for (size_t at = 0; (at = text->find(kPlaceholder, at)) != std::string::npos; ++count)
    text->erase(at, kPlaceholder.size());
  return count;
}

StatusOr<Turn> ParseTurn(const Json& entry) {
  const Json* from = entry.is_object() && entry.contains("from") ? &entry["from"] : nullptr;
  const Json* value = entry.is_object() && entry.contains("value") ? &entry["value"] : nullptr;
  if (from == nullptr || value == nullptr || !value->is_string())
    return Corruption("a turn of the conversation has no \"from\" or no \"value\"");
  if (*from != "human" && *from != "gpt")
    return Corruption("a turn of the conversation is from " + from->dump() +
                      ", not \"human\" or \"gpt\"");
  Turn turn;
  turn.human = *from == "human";
  std::string text = value->get<std::string>();
  const int pictures = TakePlaceholders(&text);
  if (pictures > 1 || (pictures == 1 && !turn.human))
    return Corruption("the conversation asks for more than one picture, or for one in an answer");
  turn.picture = pictures == 1;
  turn.text = Strip(text);
  return turn;
}

// Appends pieces to a row.
class RowWriter {
 public:
  RowWriter(BpeTokenizer* tokenizer, TokenRow* row) : tokenizer_(tokenizer), row_(row) {}

  void Id(int32_t id, bool learned) {
    row_->ids.push_back(id);
    row_->labels.push_back(learned ? id : kIgnoreLabel);
  }
  void Text(std::string_view text, bool learned) {
    const size_t before = row_->ids.size();
    tokenizer_->EncodeTo(text, &row_->ids);
    for (size_t i = before; i < row_->ids.size(); ++i)
      row_->labels.push_back(learned ? row_->ids[i] : kIgnoreLabel);
  }

 private:
  BpeTokenizer* tokenizer_;
  TokenRow* row_;
};

}  // namespace

StatusOr<std::vector<Turn>> ParseConversation(std::string_view json) {
  const Json root = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object() || !root.contains("conversations") || !root["conversations"].is_array())
    return Corruption("no JSON object with a list \"conversations\"");
  std::vector<Turn> turns;
  int pictures = 0;
  for (const Json& entry : root["conversations"]) {
    WEFT_ASSIGN_OR_RETURN(Turn turn, ParseTurn(entry));
    if (turns.empty() && !turn.human) continue;
    if (!turns.empty() && turns.back().human == turn.human)
      return Corruption("two turns of the conversation, one after the other, are from the same");
    pictures += static_cast<int>(turn.picture);
    turns.push_back(std::move(turn));
  }
  if (!turns.empty() && turns.back().human) turns.pop_back();
  if (pictures > 1) return Corruption("the conversation asks for more than one picture");
  if (turns.empty()) return Corruption("the conversation has no answer");
  return turns;
}

TokenRow PlainRow(std::string_view caption, BpeTokenizer* tokenizer) {
  TokenRow row;
  RowWriter writer(tokenizer, &row);
  writer.Id(tokenizer->vocabulary().start_id(), false);
  writer.Id(kPicturePlaceholder, false);
  writer.Text(" " + Strip(caption), true);
  writer.Text("\n", true);
  return row;
}

TokenRow V1Row(std::string_view system, const std::vector<Turn>& turns, BpeTokenizer* tokenizer) {
  TokenRow row;
  RowWriter writer(tokenizer, &row);
  writer.Id(tokenizer->vocabulary().start_id(), false);
  std::string text(system);
  if (!text.empty()) text += ' ';
  for (const Turn& turn : turns) {
    if (!turn.human) {
      writer.Text(text + " ASSISTANT:", false);
      writer.Text(" " + turn.text, true);
      writer.Id(tokenizer->vocabulary().end_id(), true);
      text.clear();
      continue;
    }
    text += "USER: ";
    if (turn.picture) {
      writer.Text(text, false);
      writer.Id(kPicturePlaceholder, false);
      text = "\n";
    }
    text += turn.text;
  }
  return row;
}

Status WidenPicture(int patches, size_t length, TokenRow* row) {
  const auto at = std::find(row->ids.begin(), row->ids.end(), kPicturePlaceholder);
  const auto width = static_cast<size_t>(patches);
  row->picture_at = -1;
  if (at != row->ids.end()) {
    const auto begin = at - row->ids.begin();
    if (static_cast<size_t>(begin) + width > length) {
      return InvalidArgument("the picture's " + std::to_string(patches) + " positions from " +
                             std::to_string(begin) + " on do not fit into " +
                             std::to_string(length));
    }
    row->picture_at = static_cast<int32_t>(begin);
    *at = 0;
    row->ids.insert(row->ids.begin() + begin, width - 1, 0);
    row->labels.insert(row->labels.begin() + begin, width - 1, kIgnoreLabel);
  }
  if (row->ids.size() > length) {
    row->ids.resize(length);
    row->labels.resize(length);
  }
  return OkStatus();
}

int32_t CountTargets(const TokenRow& row) {
  return static_cast<int32_t>(std::count_if(row.labels.begin(), row.labels.end(),
                                            [](int32_t label) { return label != kIgnoreLabel; }));
}

}  // namespace weft
