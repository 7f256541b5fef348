#include "cli/data_command.h"

#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <thread>
#include <utility>

#include "cli/data_order_command.h"
#include "cli/data_overlay_command.h"
#include "cli/data_plan_command.h"
#include "cli/data_set_commands.h"
#include "cli/data_tools.h"
#include "cli/flags.h"
#include "cli/pack_samples_command.h"
#include "cli/pack_shapes_command.h"
#include "cluster/base/clock.h"
#include "cluster/base/file_system.h"
#include "cluster/base/status.h"
#include "cluster/base/text.h"
#include "dataloader/bpe_trainer.h"
#include "dataloader/conversation.h"
#include "dataloader/data_set.h"
#include "dataloader/image_decode.h"
#include "dataloader/pack/pack_openclipart.h"
#include "dataloader/pack/pack_wordnet.h"
#include "dataloader/picture_check.h"
#include "dataloader/sample_source.h"
#include "dataloader/shard_file.h"
#include "dataloader/shard_index.h"
#include "dataloader/shard_members.h"
#include "dataloader/text_shard.h"
#include "dataloader/unicode.h"

namespace weft {
namespace {

constexpr char kUsage[] = R"(weft data: training data

  weft data pack SHARDS --out DIR        shuffle samples of any format into WebDataset shards
  weft data pack openclipart --out DIR   turn the Debian package openclipart-png into shards
  weft data pack wordnet --out DIR       turn the glosses of Debian's wordnet-base into text shards
  weft data pack shapes --out DIR        draw pictures of coloured shapes with captions: no download
  weft data inspect SHARD                show the samples of a shard
  weft data check SHARDS                 find pictures that do not decode, once
  weft data index SHARDS --out MANIFEST  index shards and make one manifest of them
  weft data lint SHARDS                  say what is wrong with shards and what to do
  weft data order RECIPE                 print the training order, or prove that it is exactly once
  weft data exclude MANIFEST --keys FILE take samples out, without touching shards
  weft data overlay MANIFEST             lay new captions, scores or a filter over a data set
  weft data plan RECIPE --nodes N        what a run will read and hold on each node
  weft data cat SHARDS                   print samples as text, or one member as a file
  weft data stats SHARDS                 draw sizes of samples, pictures and texts
  weft data vocab --captions-from SHARDS --size N --out FILE
                                         train a BPE vocabulary from the text of shards

`--help` after any of them tells more. Formats: dataloader/FORMAT.md.
)";

// Values out of range are refused where they are used.
int ToInt(int64_t value) { return static_cast<int>(std::clamp<int64_t>(value, INT_MIN, INT_MAX)); }

// One line that is written over on a terminal; elsewhere a line at the end of each stage.
class ProgressLine {
 public:
  void operator()(const std::string& stage, int64_t done, int64_t total) {
    const TimePoint now = Clock::now();
    const bool last = done == total;
    if (!last && (!terminal_ || now < next_)) return;
    next_ = now + std::chrono::milliseconds(100);
    std::fprintf(stderr, "%s%s: %lld of %lld%s", terminal_ ? "\r\033[K" : "", stage.c_str(),
                 static_cast<long long>(done), static_cast<long long>(total), last ? "\n" : "");
  }

 private:
  const bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  TimePoint next_;
};

void PrintReport(const PackReport& report, const std::string& out, double seconds) {
  for (const PackReport::Step& step : report.steps) {
    std::printf("%-26s", step.what.c_str());
    if (step.dropped > 0) {
      std::printf(" -%-6lld", static_cast<long long>(step.dropped));
    } else {
      std::printf(" %-7s", "");
    }
    std::printf(" %6lld left\n", static_cast<long long>(step.left));
  }
  std::printf("captions: %lld own titles, %lld distinct when normalised\n",
              static_cast<long long>(report.own_titles),
              static_cast<long long>(report.distinct_captions));
  std::printf("%lld training pictures, %lld held out, %lld dropped (their caption is held out)\n",
              static_cast<long long>(report.train), static_cast<long long>(report.held_out),
              static_cast<long long>(report.dropped_twins));
  std::printf("%s %s%s\n", report.already_done ? "already packed:" : "packed into", out.c_str(),
              report.already_done ? "" : (" in " + HumanSeconds(seconds)).c_str());
}

int PackOpenclipartCommand(const std::vector<std::string>& args) {
  PackOpenclipartOptions options;
  int64_t short_side = options.short_side;
  int64_t quality = options.quality;
  int64_t shards = options.shards;
  int64_t threads = std::max(1U, std::thread::hardware_concurrency());
  FlagParser flags("weft data pack openclipart", "--out DIR [flags]",
                   "Writes WebDataset shards of 5,475 public-domain pictures with captions: "
                   "train-000000.tar ... and\n"
                   "eval-000000.tar. Held out are the pictures whose normalised caption has FNV-1a "
                   "64 mod 10 = 0, the\n"
                   "first of each caption. A second call with the same flags returns at once.");
  flags.String("out", &options.out, "folder that the shards go to");
  flags.String(
      "source", &options.source,
      "the unpacked package; without it: /usr/share/openclipart/png, else apt-get downloads it");
  flags.String("cache", &options.cache, "folder where a download is kept");
  flags.Int("short", &short_side,
            "pixels of the shorter side, over white, as JPEG; 0: the PNG files as they are");
  flags.Int("quality", &quality, "of these JPEGs");
  flags.Int("shards", &shards, "training shards");
  flags.Bool("conversations", &options.conversations,
             "also write questions and answers about each picture, for LLaVA's second stage");
  flags.Int("threads", &threads, "threads that decode");
  flags.Example("weft data pack openclipart --short 96 --out data/openclipart");
  const ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  options.short_side = ToInt(short_side);
  options.quality = ToInt(quality);
  options.shards = ToInt(shards);
  options.threads = ToInt(threads);
  ProgressLine progress;
  const TimePoint start = Clock::now();
  const StatusOr<PackReport> report = PackOpenclipart(
      options,
      [&](const std::string& stage, int64_t done, int64_t total) { progress(stage, done, total); });
  if (!report.ok()) return ReportError("data pack openclipart", report.status());
  PrintReport(*report, options.out, ToSeconds(Clock::now() - start));
  return 0;
}

int PackWordnetCommand(const std::vector<std::string>& args) {
  PackWordnetOptions options;
  int64_t shards = options.shards;
  FlagParser flags("weft data pack wordnet", "--out DIR [flags]",
                   "Writes text shards of 117,659 English glosses, a document each: "
                   "train-000000.txt ... and\n"
                   "eval-000000.txt. Held out are the glosses whose FNV-1a 64 mod 100 is 0. A "
                   "second call with the same flags\n"
                   "returns at once.");
  flags.String("out", &options.out, "folder that the shards go to");
  flags.String("source", &options.source,
               "the unpacked package; without it: /usr/share/wordnet, else apt-get downloads it");
  flags.String("cache", &options.cache, "folder where a download is kept");
  flags.Int("shards", &shards, "training shards");
  flags.Example("weft data pack wordnet --out data/wordnet");
  const ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  options.shards = ToInt(shards);
  const TimePoint start = Clock::now();
  const StatusOr<PackWordnetReport> report = PackWordnet(options);
  if (!report.ok()) return ReportError("data pack wordnet", report.status());
  std::printf("%lld training glosses, %lld held out, %lld sentences\n",
              static_cast<long long>(report->train), static_cast<long long>(report->held_out),
              static_cast<long long>(report->sentences));
  const std::string seconds = HumanSeconds(ToSeconds(Clock::now() - start));
  std::printf("%s %s%s\n", report->already_done ? "already packed:" : "packed into",
              options.out.c_str(), report->already_done ? "" : (" in " + seconds).c_str());
  return 0;
}

int Pack(const std::vector<std::string>& args) {
  const std::string name = args.empty() ? "" : args[0];
  if (name == "openclipart") return PackOpenclipartCommand({args.begin() + 1, args.end()});
  if (name == "shapes") return PackShapesCommand({args.begin() + 1, args.end()});
  if (name == "wordnet") return PackWordnetCommand({args.begin() + 1, args.end()});
  if (name.empty() || name == "--help" || name.find_first_of("./*{") != std::string::npos)
    return PackSamplesCommand(args);
  return ReportError(
      "data pack", InvalidArgument("cannot pack '" + name +
                                   "': give shards, or one of `openclipart`, `shapes`, `wordnet`"));
}

// Control characters would move the terminal's cursor.
std::string OneLine(const std::string& text, size_t max_code_points) {
  std::string line;
  size_t count = 0;
  const std::string collapsed = CollapseSpaces(text);
  for (size_t i = 0; i < collapsed.size(); ++count) {
    const uint32_t c = NextCodePoint(collapsed, &i);
    if (count == max_code_points) return line + "…";
    AppendUtf8(c < 0x20 || (c >= 0x7F && c < 0xA0) ? '?' : c, &line);
  }
  return line;
}

void PrintSample(const ShardFile& file, const ShardIndex& index, int64_t sample) {
  std::vector<std::string> extensions;
  std::string image = "-";
  std::string caption;
  uint64_t size = 0;
  for (const ShardMember& member : index.members(sample)) {
    const std::string& extension = index.extension(member);
    extensions.push_back(extension);
    std::string bytes;
    const Status status = ReadShardMember(file, index, member, &bytes);
    size += bytes.size();
    if (!status.ok()) {
      image = status.message();
    } else if (extension == "txt" || extension == "text" || extension == "transcript") {
      caption = bytes;
    } else if (SniffImageFormat(bytes) != ImageFormat::kUnknown) {
      const StatusOr<ImageInfo> info = ReadImageInfo(bytes);
      image = info.ok() ? std::to_string(info->width) + "x" + std::to_string(info->height) + " " +
                              ImageFormatName(info->format)
                        : info.status().message();
    }
  }
  std::printf("%-28s %-16s %10s  %-16s %s\n", OneLine(std::string(index.key(sample)), 28).c_str(),
              Join(extensions, ",").c_str(), HumanBytes(static_cast<double>(size)).c_str(),
              image.c_str(), OneLine(caption, 60).c_str());
}

Status InspectShard(const std::string& path, int64_t limit) {
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<ShardFile> file, ShardFile::Open(path));
  WEFT_ASSIGN_OR_RETURN(const ShardIndex index,
                        ShardIndex::Build(*file, CutShards::kKeepWholeSamples));
  const int64_t shown = limit <= 0 ? index.num_samples() : std::min(limit, index.num_samples());
  std::printf("%s: %lld samples, %s\n", path.c_str(), static_cast<long long>(index.num_samples()),
              HumanBytes(static_cast<double>(file->size())).c_str());
  if (shown > 0)
    std::printf("%-28s %-16s %10s  %-16s %s\n", "KEY", "MEMBERS", "SIZE", "IMAGE", "CAPTION");
  for (int64_t i = 0; i < shown; ++i) PrintSample(*file, index, i);
  if (shown < index.num_samples()) {
    std::printf("... %lld more (--limit 0 shows all)\n",
                static_cast<long long>(index.num_samples() - shown));
  }
  return index.cut();
}

int Inspect(const std::vector<std::string>& args) {
  int64_t limit = 20;
  FlagParser flags("weft data inspect", "SHARD... [flags]",
                   "Shows for each sample its key, its members, their size, the image's format and "
                   "size, and its caption.\n"
                   "SHARD is a tar file or a pattern as 'train-{000000..000007}.tar'.");
  flags.Int("limit", &limit, "samples that are shown of each shard; 0: all");
  flags.Positional(1, SIZE_MAX);
  const ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  for (const std::string& path : ExpandShardPatterns(parsed.positional)) {
    const Status status = InspectShard(path, limit);
    if (!status.ok()) return ReportError("data inspect", status);
  }
  return 0;
}

Status CheckShard(const std::string& path, const std::vector<std::string>& extensions,
                  int threads) {
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<ShardFile> file, ShardFile::Open(path));
  WEFT_ASSIGN_OR_RETURN(const ShardIndex index, ShardIndex::Build(*file));
  WEFT_ASSIGN_OR_RETURN(const PictureCheck check, CheckPictures(*file, index, extensions, threads));
  WEFT_RETURN_IF_ERROR(WritePictureCheck(*file, index, extensions, check));
  std::printf("%s: %lld samples, %zu bad\n", path.c_str(),
              static_cast<long long>(index.num_samples()), check.bad.size());
  for (const int64_t sample : check.bad)
    std::printf("  %s\n", OneLine(std::string(index.key(sample)), 60).c_str());
  return OkStatus();
}

int Check(const std::vector<std::string>& args) {
  std::string extensions = DataRecipe().image_extensions();
  int64_t threads = std::max(1U, std::thread::hardware_concurrency());
  FlagParser flags(
      "weft data check", "SHARD... [flags]",
      "Decodes every picture once and writes beside each shard, as SHARD.checked, which "
      "ones cannot be used.\n"
      "With these files a training rank that reads no pixels decodes nothing.");
  flags.String("image-extensions", &extensions, "as in the recipe's data.image_extensions");
  flags.Int("threads", &threads, "threads that decode");
  flags.Positional(1, SIZE_MAX);
  const ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  for (const std::string& path : ExpandShardPatterns(parsed.positional)) {
    const Status status =
        CheckShard(path, LowerExtensions(extensions), std::clamp(ToInt(threads), 1, 1024));
    if (!status.ok()) return ReportError("data check", status);
  }
  return 0;
}

struct VocabularyOptions {
  std::string shards;
  std::string text_extension = "txt";
  std::string style = "clip";
  std::string out;
  int64_t size = 4096;
};

StatusOr<BpeStyle> ParseStyle(const std::string& name) {
  if (name == "clip") return BpeStyle::kClip;
  if (name == "roberta") return BpeStyle::kRoberta;
  if (name == "llava") return BpeStyle::kLlava;
  return InvalidArgument("--style must be clip, roberta or llava, not '" + name + "'");
}

// As the sequences of a conversation have them: behind a space, and with the words of the roles.
void AddConversation(const std::string& json, BpeTrainer* trainer) {
  const StatusOr<std::vector<Turn>> turns = ParseConversation(json);
  if (!turns.ok()) return;
  for (const Turn& turn : *turns)
    trainer->AddText(turn.human ? "USER: \n" + turn.text + " ASSISTANT:" : " " + turn.text);
}

Status AddCaptions(const VocabularyOptions& options, BpeStyle style, BpeTrainer* trainer) {
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<DataSet> set,
                        DataSet::Open({options.shards}, "--captions-from"));
  const std::vector<std::string> extensions = {options.text_extension};
  const std::vector<std::string> json_extensions = {"json"};
  std::string caption;
  for (int64_t id = 0; id < set->num_samples(); ++id) {
    const Status status = set->ReadMember(id, extensions, &caption);
    if (!status.ok()) return status.WithContext(set->Describe(id));
    trainer->AddText(style == BpeStyle::kLlava ? " " + caption : caption);
    if (style != BpeStyle::kLlava || !set->Has(id, json_extensions)) continue;
    WEFT_RETURN_IF_ERROR(set->ReadMember(id, json_extensions, &caption));
    AddConversation(caption, trainer);
  }
  return OkStatus();
}

Status AddSentences(const VocabularyOptions& options, BpeTrainer* trainer) {
  for (const std::string& path : ExpandShardPatterns({options.shards})) {
    WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<ShardFile> shard, ShardFile::Open(path));
    WEFT_RETURN_IF_ERROR(
        ReadSentences(*shard, {options.text_extension}, [trainer](std::string_view text) {
          if (!text.empty()) trainer->AddText(text);
        }));
  }
  return OkStatus();
}

Status TrainVocabulary(const VocabularyOptions& options) {
  if (options.shards.empty()) return InvalidArgument("--captions-from is missing");
  if (options.out.empty()) return InvalidArgument("--out is missing");
  WEFT_ASSIGN_OR_RETURN(const BpeStyle style, ParseStyle(options.style));
  BpeTrainer trainer(style);
  WEFT_RETURN_IF_ERROR(style == BpeStyle::kRoberta ? AddSentences(options, &trainer)
                                                   : AddCaptions(options, style, &trainer));
  StatusOr<std::string> file = trainer.Train(ToInt(options.size));
  if (!file.ok()) return file.status().WithContext("--size");
  WEFT_RETURN_IF_ERROR(PosixFileSystem()->MakeDirs(ParentPath(options.out)));
  WEFT_RETURN_IF_ERROR(WriteFileDurably(PosixFileSystem(), options.out, *file));
  std::printf("%s: %lld entries from %lld %s with %lld distinct words\n", options.out.c_str(),
              static_cast<long long>(options.size), static_cast<long long>(trainer.num_texts()),
              style == BpeStyle::kClip ? "captions" : "sentences",
              static_cast<long long>(trainer.num_distinct_words()));
  return OkStatus();
}

int Vocab(const std::vector<std::string>& args) {
  VocabularyOptions options;
  FlagParser flags("weft data vocab", "--captions-from SHARDS --out FILE [flags]",
                   "Trains byte-pair merges from the text of shards and writes a vocabulary "
                   "file for a recipe's\n"
                   "`data.vocabulary`. The same text gives the same file.");
  flags.String("captions-from", &options.shards,
               "a tar file, or a pattern as 'train-{000000..000007}.tar'; style roberta also takes "
               "text files");
  flags.String("style", &options.style,
               "clip (lower-cased words), roberta or llava (GPT-2's bytes as they are; llava also "
               "learns from conversations in .json members)");
  flags.Int("size", &options.size,
            "entries: merges, bytes and special ids (514 that are no merges for clip, 261 for "
            "roberta, 259 for llava)");
  flags.String("text-extension", &options.text_extension, "the member that holds the text");
  flags.String("out", &options.out, "file that is written");
  const ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  const Status status = TrainVocabulary(options);
  return status.ok() ? 0 : ReportError("data vocab", status);
}

}  // namespace

int DataCommand(const std::vector<std::string>& args) {
  const std::string name = args.empty() ? "" : args[0];
  if (name.empty() || name == "--help" || name == "help") {
    std::fputs(kUsage, args.empty() ? stderr : stdout);
    return args.empty() ? kExitUsage : 0;
  }
  const std::vector<std::string> rest(args.begin() + 1, args.end());
  if (name == "pack") return Pack(rest);
  if (name == "inspect") return Inspect(rest);
  if (name == "check") return Check(rest);
  if (name == "vocab") return Vocab(rest);
  if (name == "index") return DataIndexCommand(rest);
  if (name == "lint") return DataLintCommand(rest);
  if (name == "order") return DataOrderCommand(rest);
  if (name == "exclude") return DataExcludeCommand(rest);
  if (name == "plan") return DataPlanCommand(rest);
  if (name == "overlay") return DataOverlayCommand(rest);
  if (name == "cat") return DataCatCommand(rest);
  if (name == "stats") return DataStatsCommand(rest);
  const std::string nearest =
      NearestName(name, {"pack", "inspect", "check", "vocab", "index", "lint", "order", "exclude",
                         "cat", "stats", "overlay", "plan"});
  return ReportError("data",
                     InvalidArgument("unknown command '" + name + "'" +
                                     (nearest.empty() ? "" : "; did you mean `" + nearest + "`?")));
}

}  // namespace weft
