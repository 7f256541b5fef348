#include "cli/data_overlay_command.h"

#include <charconv>
#include <cstdio>
#include <fstream>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>

#include "cli/flags.h"
#include "cluster/base/text.h"
#include "dataloader/manifest.h"
#include "dataloader/shard_index.h"

namespace weft {
namespace {

using Json = nlohmann::json;

struct OverlayFlags {
  std::string from;
  std::vector<std::string> columns;
  std::string keep;
};

// Values of each column by key.
using Table = std::map<std::string, std::unordered_map<std::string, std::string>>;

StatusOr<Table> ReadTable(const std::string& path, const std::vector<std::string>& columns) {
  std::ifstream file(path);
  if (!file) return NotFound("cannot open " + path);
  Table table;
  std::string line;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string where = path + ", line " + std::to_string(number);
    const Json record = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!record.is_object() || !record.contains("key") || !record["key"].is_string())
      return Corruption(where + ": no JSON object with a \"key\"");
    const auto key = record["key"].get<std::string>();
    for (const std::string& column : columns) {
      if (!record.contains(column)) continue;
      const Json& value = record[column];
      table[column][key] = value.is_string() ? value.get<std::string>() : value.dump();
    }
  }
  for (const std::string& column : columns) {
    if (!table.contains(column))
      return NotFound("no line of " + path + " has a \"" + column + "\"");
  }
  return table;
}

// Calls `use` with shard, index and key of each sample, excluded or not.
Status ForEachSample(const Manifest& manifest,
                     const std::function<Status(int64_t, int64_t, std::string_view)>& use) {
  for (int64_t shard = 0; shard < static_cast<int64_t>(manifest.shards().size()); ++shard) {
    WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<ShardFile> file,
                          ShardFile::Open(manifest.ShardPath(shard)));
    std::optional<ShardIndex> index = ShardIndex::MapBeside(*file);
    if (!index) {
      WEFT_ASSIGN_OR_RETURN(index, ShardIndex::Build(*file));
    }
    for (int64_t i = 0; i < index->num_samples(); ++i)
      WEFT_RETURN_IF_ERROR(use(shard, i, index->key(i)));
  }
  return OkStatus();
}

Status AddColumns(const OverlayFlags& flags, Manifest* manifest) {
  WEFT_ASSIGN_OR_RETURN(const Table table, ReadTable(flags.from, flags.columns));
  for (const auto& entry : table) {
    const std::string& column = entry.first;
    const std::unordered_map<std::string, std::string>& value_of_key = entry.second;
    std::vector<ColumnValue> values;
    WEFT_RETURN_IF_ERROR(
        ForEachSample(*manifest, [&](int64_t shard, int64_t index, std::string_view key) {
          const auto found = value_of_key.find(std::string(key));
          if (found != value_of_key.end()) values.push_back({shard, index, found->second});
          return OkStatus();
        }));
    if (values.empty())
      return NotFound("no key of " + flags.from + " is in the data set; nothing was changed");
    const size_t count = values.size();
    WEFT_RETURN_IF_ERROR(manifest->AddColumn(column, std::move(values)));
    std::printf("%zu samples have .%s from %s (%zu keys there)\n", count, column.c_str(),
                flags.from.c_str(), value_of_key.size());
  }
  return OkStatus();
}

// "clip >= 0.28".
struct Condition {
  std::string column;
  bool at_least = true;
  double limit = 0;
};

bool ToNumber(std::string_view text, double* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size();
}

StatusOr<Condition> ParseCondition(const std::string& text) {
  std::vector<std::string> words;
  for (std::string& word : Split(text, ' ')) {
    if (!word.empty()) words.push_back(std::move(word));
  }
  Condition condition;
  if (words.size() != 3 || (words[1] != ">=" && words[1] != "<=") ||
      !ToNumber(words[2], &condition.limit)) {
    return InvalidArgument("--keep must be as 'clip >= 0.28', not '" + text + "'");
  }
  condition.column = words[0];
  condition.at_least = words[1] == ">=";
  return condition;
}

Status Filter(const std::string& text, Manifest* manifest) {
  WEFT_ASSIGN_OR_RETURN(const Condition condition, ParseCondition(text));
  std::vector<std::pair<int64_t, int64_t>> dropped;
  int64_t without = 0;
  for (int64_t shard = 0; shard < static_cast<int64_t>(manifest->shards().size()); ++shard) {
    const auto samples =
        static_cast<int64_t>(manifest->shards()[static_cast<size_t>(shard)].samples);
    for (int64_t index = 0; index < samples; ++index) {
      WEFT_ASSIGN_OR_RETURN(const std::optional<std::string_view> value,
                            manifest->ColumnValueOf(condition.column, shard, index));
      double number = 0;
      if (!value || !ToNumber(*value, &number)) {
        ++without;
      } else if (condition.at_least ? number < condition.limit : number > condition.limit) {
        dropped.emplace_back(shard, index);
      }
    }
  }
  const int64_t all = manifest->num_samples();
  if (without >= all && dropped.empty())
    return NotFound("no sample has a number in a column ." + condition.column +
                    "; lay it over with `weft data overlay --from`");
  WEFT_ASSIGN_OR_RETURN(const int64_t count, manifest->Exclude(std::move(dropped)));
  std::printf("%lld samples left out; %lld without a number in .%s stay\n",
              static_cast<long long>(count), static_cast<long long>(without),
              condition.column.c_str());
  return OkStatus();
}

Status Overlay(const OverlayFlags& flags, const std::string& path) {
  if (flags.from.empty() == flags.keep.empty())
    return InvalidArgument("give either --from FILE with --column NAME, or --keep CONDITION");
  if (!flags.from.empty() && flags.columns.empty())
    return InvalidArgument("--column is missing: which of the file's values to take");
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<Manifest> manifest, Manifest::Open(path));
  WEFT_RETURN_IF_ERROR(flags.keep.empty() ? AddColumns(flags, manifest.get())
                                          : Filter(flags.keep, manifest.get()));
  std::printf("%s: %lld samples, hash %s\n", path.c_str(),
              static_cast<long long>(manifest->num_samples()), manifest->hash().c_str());
  return OkStatus();
}

}  // namespace

int DataOverlayCommand(const std::vector<std::string>& args) {
  OverlayFlags overlay;
  FlagParser flags(
      "weft data overlay", "MANIFEST [flags]",
      "Lays new captions, scores or a filter over a data set; no shard is touched. A column is "
      "a member of the\n"
      "samples that it has values for, instead of the shard's own. The manifest's hash "
      "changes.");
  flags.String("from", &overlay.from,
               "JSON lines: {\"key\": KEY, NAME: value, ...}; keys as `weft data cat` shows them");
  flags.Strings("column", &overlay.columns, "the NAME of a value: the member's extension, as txt");
  flags.String("keep", &overlay.keep,
               "leave out what does not hold for a column of numbers, as 'clip >= 0.28'");
  flags.Positional(1, 1);
  flags.Example("weft data overlay data/train.manifest --from recaptioned.jsonl --column txt");
  flags.Example("weft data overlay data/train.manifest --keep 'clip >= 0.28'");
  const ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  const Status status = Overlay(overlay, parsed.positional[0]);
  return status.ok() ? 0 : ReportError("data overlay", status);
}

}  // namespace weft
