#include "cli/checkpoint_command.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <map>
#include <tuple>

#include "checkpoint/checkpoint_reader.h"
#include "cli/flags.h"
#include "cluster/base/text.h"
#include "coordinator/journal.h"

namespace weft {
namespace {

constexpr char kCommitted[] = "committed";
constexpr char kBad[] = "bad";

// (epoch, generation, attempt) orders checkpoints as they were begun.
using Key = std::tuple<int64_t, uint64_t, uint64_t, int64_t>;
Key KeyOf(const CheckpointName& name) {
  return {name.step, name.epoch, name.generation, name.attempt};
}

struct Paths {
  std::string run_dir;
  std::string checkpoint_dir;
};

StatusOr<Paths> FindPaths(FileSystem* fs, std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  if (!fs->Exists(path)) return NotFound(path + ": no such directory");
  if (fs->Exists(JoinPath(path, "ckpt"))) return Paths{path, JoinPath(path, "ckpt")};
  WEFT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs->ListDir(path));
  const bool has_checkpoints = std::any_of(names.begin(), names.end(), [](const auto& name) {
    return ParseManifestFileName(name) || ParseAttemptDirectoryName(name);
  });
  if (has_checkpoints || path == "ckpt" || path.ends_with("/ckpt")) {
    return Paths{ParentPath(path), path};
  }
  return NotFound(path + ": it holds no checkpoints; name a run directory or its ckpt/");
}

template <typename T>
CheckpointRow RowOf(const T& record, const std::string& state) {
  CheckpointRow row;
  row.name = {record.step(), record.epoch(), record.generation(), record.attempt()};
  row.state = state;
  return row;
}

// The size and number of ranks that the manifest itself states; 0 if it does not read.
void AddFromManifest(FileSystem* fs, const std::string& checkpoint_dir, CheckpointRow* row) {
  const auto manifest = ReadManifest(fs, JoinPath(checkpoint_dir, ManifestFileName(row->name)));
  if (!manifest.ok()) return;
  row->world_size = manifest->shards_size();
  for (const checkpoint::ShardInfo& shard : manifest->shards()) row->bytes += shard.file_bytes();
}

std::string WhenText(int64_t unix_ms) {
  if (unix_ms == 0) return "-";
  const auto seconds = static_cast<std::time_t>(unix_ms / 1000);
  std::tm utc = {};
  ::gmtime_r(&seconds, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &utc);
  return text;
}

std::string TokenText(const CheckpointName& name) {
  return "E" + std::to_string(name.epoch) + ".G" + std::to_string(name.generation) + ".A" +
         std::to_string(name.attempt);
}

void PrintListing(const CheckpointListing& listing) {
  std::printf("%10s  %-14s %10s  %5s  %-19s  %s\n", "step", "generation", "size", "ranks",
              "when (UTC)", "state");
  for (const CheckpointRow& row : listing.rows) {
    std::printf("%10lld  %-14s %10s  %5s  %-19s  %s\n", static_cast<long long>(row.name.step),
                TokenText(row.name).c_str(),
                row.bytes == 0 ? "-" : HumanBytes(static_cast<double>(row.bytes)).c_str(),
                row.world_size == 0 ? "-" : std::to_string(row.world_size).c_str(),
                WhenText(row.unix_ms).c_str(), row.state.c_str());
  }
}

// Reads all of one checkpoint.
StatusOr<VerifyReport> VerifyRow(FileSystem* fs, const std::string& checkpoint_dir,
                                 const CheckpointRow& row) {
  const std::string path = JoinPath(checkpoint_dir, ManifestFileName(row.name));
  WEFT_ASSIGN_OR_RETURN(const std::string bytes, fs->ReadFile(path));
  WEFT_ASSIGN_OR_RETURN(const checkpoint::Manifest manifest, DecodeManifest(bytes, path));
  if (row.manifest_crc != 0 && ManifestCrc(bytes) != row.manifest_crc) {
    return Corruption(path + ": it is not the manifest that was committed");
  }
  return VerifyCheckpoint(fs, checkpoint_dir, manifest);
}

int List(const std::string& path) {
  const StatusOr<CheckpointListing> listing = ListCheckpoints(PosixFileSystem(), path);
  if (!listing.ok()) return ReportError("weft checkpoint list", listing.status());
  if (listing->rows.empty()) {
    std::printf("no checkpoint yet in %s\n", listing->checkpoint_dir.c_str());
  } else {
    PrintListing(*listing);
  }
  return 0;
}

int Verify(const std::string& path, int64_t step) {
  const StatusOr<CheckpointListing> listing = ListCheckpoints(PosixFileSystem(), path);
  if (!listing.ok()) return ReportError("weft checkpoint verify", listing.status());
  int good = 0;
  int damaged = 0;
  for (const CheckpointRow& row : listing->rows) {
    // Attempts that were never committed are no checkpoints; bad ones are read on request only.
    if (step >= 0 ? row.name.step != step : row.state == kBad) continue;
    if (row.state == "aborted" || row.state == "unfinished") continue;
    const StatusOr<VerifyReport> report =
        VerifyRow(PosixFileSystem(), listing->checkpoint_dir, row);
    const std::string name = AttemptDirectoryName(row.name);
    if (report.ok()) {
      ++good;
      std::printf("%s: OK (%d tensors, %d shards, %llu blocks, %s)\n", name.c_str(),
                  report->tensors, report->shards, static_cast<unsigned long long>(report->blocks),
                  HumanBytes(static_cast<double>(report->bytes)).c_str());
    } else {
      ++damaged;
      std::printf("%s: %s\n", name.c_str(), report.status().ToString().c_str());
    }
  }
  if (good + damaged == 0) {
    const std::string which =
        step >= 0 ? "no checkpoint of step " + std::to_string(step) : "no checkpoint";
    return ReportError("weft checkpoint verify",
                       NotFound(which + " in " + listing->checkpoint_dir));
  }
  return damaged == 0 ? 0 : 1;
}

}  // namespace

StatusOr<CheckpointListing> ListCheckpoints(FileSystem* fs, const std::string& path) {
  WEFT_ASSIGN_OR_RETURN(const Paths paths, FindPaths(fs, path));
  WEFT_ASSIGN_OR_RETURN(const JournalState journal, ReplayJournal(fs, paths.run_dir));
  WEFT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs->ListDir(paths.checkpoint_dir));
  std::map<Key, CheckpointRow> rows;
  for (const std::string& text : names) {
    auto name = ParseManifestFileName(text);
    if (!name) name = ParseAttemptDirectoryName(text);
    if (!name) continue;
    CheckpointRow row;
    row.name = *name;
    row.state = "not in the journal";
    rows[KeyOf(*name)] = row;
  }
  // Attempts that left nothing behind are not worth a line.
  for (const auto& attempt : journal.aborted) {
    const CheckpointRow row = RowOf(attempt, "aborted");
    if (rows.count(KeyOf(row.name)) > 0) rows[KeyOf(row.name)] = row;
  }
  for (const auto& attempt : journal.open) {
    const CheckpointRow row = RowOf(attempt, "unfinished");
    if (rows.count(KeyOf(row.name)) > 0) rows[KeyOf(row.name)] = row;
  }
  for (const auto& commit : journal.committed) {
    CheckpointRow row = RowOf(commit, commit.bad() ? kBad : kCommitted);
    row.bytes = commit.bytes();
    row.world_size = commit.world_size();
    row.unix_ms = commit.unix_ms();
    row.manifest_crc = commit.manifest_crc();
    rows[KeyOf(row.name)] = row;
  }
  CheckpointListing listing{paths.checkpoint_dir, {}};
  for (auto& [key, row] : rows) {
    if (row.bytes == 0) AddFromManifest(fs, paths.checkpoint_dir, &row);
    listing.rows.push_back(std::move(row));
  }
  return listing;
}

int CheckpointCommand(const std::vector<std::string>& args) {
  int64_t step = -1;
  FlagParser flags(
      "weft checkpoint", "list|verify DIR [flags]",
      "Shows the checkpoints of a run, or reads all their bytes and checks them. DIR is a "
      "run directory or its ckpt/.");
  flags.Positional(2, 2);
  flags.Int("step", &step, "verify: this step only (-1: all)");
  flags.Example("weft checkpoint list runs/clip-demo");
  flags.Example("weft checkpoint verify runs/clip-demo --step 1000");
  const ParsedFlags parsed = flags.Parse(args);
  if (parsed.exit_code) return *parsed.exit_code;
  const std::string& action = parsed.positional[0];
  if (action == "list") return List(parsed.positional[1]);
  if (action == "verify") return Verify(parsed.positional[1], step);
  std::string message = "unknown action '" + action + "'";
  const std::string nearest = NearestName(action, {"list", "verify"});
  message += nearest.empty() ? "; there are list and verify" : "; did you mean '" + nearest + "'?";
  return ReportError("weft checkpoint", InvalidArgument(message));
}

}  // namespace weft
