#include "cli/data_tools.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <memory>
#include <optional>

#include "cli/flags.h"
#include "cli/histogram.h"
#include "cluster/base/file_system.h"
#include "cluster/base/hash.h"
#include "cluster/base/text.h"
#include "dataloader/bpe_tokenizer.h"
#include "dataloader/data_set.h"
#include "dataloader/image_decode.h"
#include "dataloader/sample.h"
#include "dataloader/unicode.h"

namespace weft {
namespace {

struct CatFlags {
  std::string key;
  int64_t first = 0;
  int64_t limit = 10;
  bool hash = false;
  std::string member;
  std::string out;
};

// What a terminal may be given: no control characters but line breaks and tabs.
std::string Printable(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const uint32_t c = NextCodePoint(text, &i);
    const bool plain =
        c == '\n' || c == '\t' || (c >= 0x20 && c != 0x7F && !(c >= 0x80 && c < 0xA0));
    AppendUtf8(plain ? c : '?', &out);
  }
  return out;
}

bool IsShortText(const std::string& bytes) {
  if (bytes.size() > 4096) return false;
  return std::none_of(bytes.begin(), bytes.end(), [](unsigned char c) {
    return (c < 0x20 && c != '\n' && c != '\t' && c != '\r') || c == 0x7F;
  });
}

void PrintSample(const Sample& sample) {
  std::printf("key   %s\n", Printable(sample.key).c_str());
  for (const Media& media : sample.media) {
    const bool picture = media.kind == MediaKind::kImage;
    std::printf("media .%s: %s, %d x %d, %s\n", media.name.c_str(),
                picture ? ImageFormatName(SniffImageFormat(media.bytes)) : "region features",
                media.width, media.height,
                HumanBytes(static_cast<double>(media.bytes.size())).c_str());
  }
  for (const std::string& text : sample.texts) std::printf("text  %s\n", Printable(text).c_str());
  for (const auto& [name, bytes] : sample.fields) {
    const std::string value = IsShortText(bytes)
                                  ? Printable(bytes)
                                  : HumanBytes(static_cast<double>(bytes.size())) + " of data";
    std::printf("field .%s: %s\n", name.c_str(), value.c_str());
  }
  std::printf("\n");
}

// KEY, extension and SHA-256 of each member: what two tools that read the same samples agree on.
Status PrintHashes(const DataSet& set, int64_t id) {
  std::string bytes;
  for (const std::string& extension : set.Extensions(id)) {
    WEFT_RETURN_IF_ERROR(set.ReadMember(id, std::array{extension}, &bytes));
    std::printf("%s\t%s\t%s\n", std::string(set.key(id)).c_str(), extension.c_str(),
                Sha256Hex(bytes).c_str());
  }
  return OkStatus();
}

Status WriteMember(const DataSet& set, int64_t id, const CatFlags& flags) {
  std::string bytes;
  const Status status = set.ReadMember(id, std::array{flags.member}, &bytes);
  if (!status.ok()) return status.WithContext(set.Describe(id));
  if (!flags.out.empty()) return WriteFileDurably(PosixFileSystem(), flags.out, bytes);
  std::fwrite(bytes.data(), 1, bytes.size(), stdout);
  return OkStatus();
}

StatusOr<int64_t> FindKey(const DataSet& set, const std::string& key) {
  for (int64_t id = 0; id < set.num_samples(); ++id) {
    if (set.key(id) == key) return id;
  }
  return NotFound("no sample has the key '" + key + "'");
}

Status Cat(CatFlags flags, const std::vector<std::string>& shards) {
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<DataSet> set, DataSet::Open(shards, "SHARDS"));
  if (!flags.key.empty()) {
    WEFT_ASSIGN_OR_RETURN(flags.first, FindKey(*set, flags.key));
    flags.limit = 1;
  }
  if (flags.first < 0 || flags.first >= set->num_samples())
    return InvalidArgument("--first must be from 0 to " + std::to_string(set->num_samples() - 1));
  if (!flags.member.empty()) return WriteMember(*set, flags.first, flags);
  const int64_t left = set->num_samples() - flags.first;
  const int64_t count = flags.limit <= 0 ? left : std::min(left, flags.limit);
  for (int64_t id = flags.first; id < flags.first + count; ++id) {
    if (flags.hash) {
      const Status status = PrintHashes(*set, id);
      if (!status.ok()) return status.WithContext(set->Describe(id));
      continue;
    }
    const StatusOr<Sample> sample = set->Read(id);
    if (!sample.ok()) return sample.status().WithContext(set->Describe(id));
    PrintSample(*sample);
  }
  return OkStatus();
}

// The numbers whose distribution `stats` draws.
struct SetNumbers {
  std::vector<double> bytes;
  std::vector<double> sides;  // the picture's shorter side
  std::vector<double> characters;
  std::vector<double> tokens;
  int64_t pictures = 0;
  int64_t without_text = 0;
  std::array<int64_t, 4> formats = {};
};

void CountSample(const Sample& sample, BpeTokenizer* tokenizer, SetNumbers* numbers) {
  size_t bytes = 0;
  for (const Media& media : sample.media) {
    bytes += media.bytes.size();
    if (media.kind != MediaKind::kImage) continue;
    ++numbers->pictures;
    ++numbers->formats[static_cast<size_t>(SniffImageFormat(media.bytes))];
    if (media.width > 0) numbers->sides.push_back(std::min(media.width, media.height));
  }
  for (const std::string& text : sample.texts) {
    bytes += text.size();
    size_t characters = 0;
    for (size_t i = 0; i < text.size(); ++characters) NextCodePoint(text, &i);
    numbers->characters.push_back(static_cast<double>(characters));
    if (tokenizer != nullptr)
      numbers->tokens.push_back(static_cast<double>(tokenizer->Encode(text).size()));
  }
  if (sample.texts.empty()) ++numbers->without_text;
  for (const auto& [name, value] : sample.fields) bytes += value.size();
  numbers->bytes.push_back(static_cast<double>(bytes));
}

struct StatsFlags {
  int64_t samples = 20'000;
  std::string vocabulary;
};

Status Stats(const StatsFlags& flags, const std::vector<std::string>& shards) {
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<DataSet> set, DataSet::Open(shards, "SHARDS"));
  std::unique_ptr<BpeVocabulary> vocabulary;
  std::optional<BpeTokenizer> tokenizer;
  if (!flags.vocabulary.empty()) {
    WEFT_ASSIGN_OR_RETURN(vocabulary, BpeVocabulary::Load(flags.vocabulary, 0));
    tokenizer.emplace(*vocabulary);
  }
  const int64_t total = set->num_samples();
  const int64_t looked_at = flags.samples <= 0 ? total : std::min(total, flags.samples);
  SetNumbers numbers;
  int64_t unreadable = 0;
  for (int64_t i = 0; i < looked_at; ++i) {
    // Evenly over the set.
    const auto id = static_cast<int64_t>(static_cast<double>(i) * static_cast<double>(total) /
                                         static_cast<double>(looked_at));
    const StatusOr<Sample> sample = set->Read(id);
    if (!sample.ok() && sample.status().code() != StatusCode::kCorruption) return sample.status();
    if (sample.ok()) {
      CountSample(*sample, tokenizer ? &*tokenizer : nullptr, &numbers);
    } else {
      ++unreadable;
    }
  }
  std::printf("%lld samples in %zu shards, %lld looked at", static_cast<long long>(total),
              set->ShardSizes().size(), static_cast<long long>(looked_at));
  if (unreadable > 0) std::printf(", %lld cannot be read", static_cast<long long>(unreadable));
  std::printf("\n%lld pictures:", static_cast<long long>(numbers.pictures));
  for (const ImageFormat format : {ImageFormat::kJpeg, ImageFormat::kPng, ImageFormat::kWebp})
    std::printf(" %lld %s", static_cast<long long>(numbers.formats[static_cast<size_t>(format)]),
                ImageFormatName(format));
  std::printf("; %lld samples without a text\n", static_cast<long long>(numbers.without_text));
  PrintHistogram("bytes of a sample", numbers.bytes, HistogramUnit::kBytes);
  PrintHistogram("shorter side of a picture, pixels", numbers.sides, HistogramUnit::kNumber);
  PrintHistogram("characters of a text", numbers.characters, HistogramUnit::kNumber);
  if (tokenizer) PrintHistogram("tokens of a text", numbers.tokens, HistogramUnit::kNumber);
  return OkStatus();
}

}  // namespace

int DataCatCommand(const std::vector<std::string>& args) {
  CatFlags cat;
  FlagParser flags("weft data cat", "SHARD...|MANIFEST [flags]",
                   "Prints samples as text, whatever their format; or one member as a file.");
  flags.String("key", &cat.key, "only the first sample with this key");
  flags.Int("first", &cat.first, "the first sample that is shown, counted from 0");
  flags.Int("limit", &cat.limit, "how many; 0: all");
  flags.Bool("hash", &cat.hash, "key, extension and SHA-256 of each member instead, tabs between");
  flags.String("member", &cat.member, "the member with this extension of one sample, as it is");
  flags.String("out", &cat.out, "the file that --member goes to; without it: stdout");
  flags.Positional(1, SIZE_MAX);
  flags.Example("weft data cat data/train.manifest --key train-000017 --member jpg --out 17.jpg");
  const ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  const Status status = Cat(cat, parsed.positional);
  return status.ok() ? 0 : ReportError("data cat", status);
}

int DataStatsCommand(const std::vector<std::string>& args) {
  StatsFlags stats;
  FlagParser flags("weft data stats", "SHARD...|MANIFEST [flags]",
                   "Draws how large samples, pictures and texts are.");
  flags.Int("samples", &stats.samples, "samples that are looked at, evenly over the set; 0: all");
  flags.String("vocabulary", &stats.vocabulary,
               "also count tokens, with the recipe's data.vocabulary");
  flags.Positional(1, SIZE_MAX);
  flags.Example("weft data stats data/train.manifest --vocabulary data/clip.vocab");
  const ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  const Status status = Stats(stats, parsed.positional);
  return status.ok() ? 0 : ReportError("data stats", status);
}

}  // namespace weft
