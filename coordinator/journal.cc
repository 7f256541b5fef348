#include "coordinator/journal.h"

#include <algorithm>
#include <cstdio>
#include <tuple>
#include <utility>

#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/manifest.h"
#include "cluster/base/hash.h"
#include "cluster/base/logging.h"
#include "coordinator/wall_time.h"

namespace weft {
namespace {

constexpr int kJournalFormat = 1;
constexpr size_t kRecordHeaderBytes = 8;
constexpr uint32_t kMaxRecordBytes = 64u << 20;

std::string CoordDir(const std::string& run_dir) { return JoinPath(run_dir, "coord"); }
std::string CheckpointDir(const std::string& run_dir) { return JoinPath(run_dir, "ckpt"); }
std::string LogPath(const std::string& run_dir, uint64_t epoch) {
  return JoinPath(CoordDir(run_dir), EpochLogName(epoch));
}

void PutU32(uint32_t value, std::string* out) {
  for (int i = 0; i < 4; ++i) out->push_back(static_cast<char>(value >> (8 * i)));
}
uint32_t GetU32(std::string_view bytes) {
  uint32_t value = 0;
  for (int i = 3; i >= 0; --i)
    value = value << 8 | static_cast<uint8_t>(bytes[static_cast<size_t>(i)]);
  return value;
}

std::string EncodeRecord(const journal::Record& record) {
  const std::string payload = record.SerializeAsString();
  std::string bytes;
  PutU32(static_cast<uint32_t>(payload.size()), &bytes);
  PutU32(Crc32c(payload.data(), payload.size()), &bytes);
  return bytes + payload;
}

template <typename T>
CheckpointName NameOfRecord(const T& r) {
  return {r.step(), r.epoch(), r.generation(), r.attempt()};
}

// Removes what `match` accepts from the list.
template <typename T, typename Match>
void EraseIf(std::vector<T>* list, Match match) {
  list->erase(std::remove_if(list->begin(), list->end(), match), list->end());
}

journal::SaveAbort OpenAttempt(const journal::SaveBegin& begin, uint64_t epoch) {
  journal::SaveAbort attempt;
  attempt.set_step(begin.step());
  attempt.set_epoch(epoch);
  attempt.set_generation(begin.generation());
  attempt.set_attempt(begin.attempt());
  return attempt;
}

// Said before a committed checkpoint is removed (from then on it is as good as aborted) and after the removal of an
// aborted one.
void Retire(const std::string& manifest, JournalState* state) {
  const auto commit = std::find_if(state->committed.begin(), state->committed.end(),
                                   [&](const auto& c) { return c.manifest() == manifest; });
  if (commit == state->committed.end()) {
    EraseIf(&state->aborted,
            [&](const auto& a) { return ManifestFileName(NameOfRecord(a)) == manifest; });
    return;
  }
  journal::SaveAbort leftover;
  leftover.set_step(commit->step());
  leftover.set_epoch(commit->epoch());
  leftover.set_generation(commit->generation());
  leftover.set_attempt(commit->attempt());
  leftover.set_reason("retired");
  state->committed.erase(commit);
  state->aborted.push_back(std::move(leftover));
}

// Applies one record of the log of `epoch`.
void Apply(const journal::Record& record, uint64_t epoch, JournalState* state) {
  const auto close = [&](const CheckpointName& name) {
    EraseIf(&state->open, [&](const auto& a) { return NameOfRecord(a) == name; });
  };
  switch (record.body_case()) {
    case journal::Record::kEpochOpen:
      state->committed.assign(record.epoch_open().adopted().begin(),
                              record.epoch_open().adopted().end());
      state->aborted.assign(record.epoch_open().aborted().begin(),
                            record.epoch_open().aborted().end());
      break;
    case journal::Record::kSaveBegin:
      state->open.push_back(OpenAttempt(record.save_begin(), epoch));
      break;
    case journal::Record::kSaveCommit:
      close(NameOfRecord(record.save_commit()));
      state->committed.push_back(record.save_commit());
      break;
    case journal::Record::kSaveAbort:
      close(NameOfRecord(record.save_abort()));
      state->aborted.push_back(record.save_abort());
      break;
    case journal::Record::kCheckpointBad:
      for (journal::SaveCommit& commit : state->committed) {
        if (commit.manifest() == record.checkpoint_bad().manifest()) commit.set_bad(true);
      }
      break;
    case journal::Record::kCheckpointRetired:
      Retire(record.checkpoint_retired().manifest(), state);
      break;
    case journal::Record::kRunFinished:
      state->finished = true;
      state->finished_exit_code = record.run_finished().exit_code();
      break;
    default:
      break;  // for people only
  }
}

// The commit record of a manifest that lies there and verifies completely; nothing if it does not.
StatusOr<journal::SaveCommit> VerifiedCommit(FileSystem* fs, const std::string& checkpoint_dir,
                                             const CheckpointName& name) {
  const std::string file = ManifestFileName(name);
  WEFT_ASSIGN_OR_RETURN(const std::string bytes, fs->ReadFile(JoinPath(checkpoint_dir, file)));
  WEFT_ASSIGN_OR_RETURN(const checkpoint::Manifest manifest, DecodeManifest(bytes, file));
  if (!(NameOf(manifest) == name)) return Corruption(file + ": it describes another checkpoint");
  WEFT_ASSIGN_OR_RETURN(const VerifyReport report, VerifyCheckpoint(fs, checkpoint_dir, manifest));
  journal::SaveCommit commit;
  commit.set_step(name.step);
  commit.set_epoch(name.epoch);
  commit.set_generation(name.generation);
  commit.set_attempt(name.attempt);
  commit.set_manifest(file);
  commit.set_manifest_crc(ManifestCrc(bytes));
  commit.set_bytes(report.bytes);
  commit.set_world_size(manifest.shards_size());
  commit.set_unix_ms(UnixMs());
  return commit;
}

// Attempts that were open when the last coordinator died: forward if their manifest verifies, else aborted.
void ResolveOpenAttempts(FileSystem* fs, const std::string& checkpoint_dir, JournalState* state) {
  for (journal::SaveAbort attempt : std::exchange(state->open, {})) {
    const CheckpointName name = NameOfRecord(attempt);
    const StatusOr<journal::SaveCommit> commit = VerifiedCommit(fs, checkpoint_dir, name);
    if (commit.ok()) {
      WEFT_LOG(INFO) << "journal: " << commit->manifest() << " is complete: committed now";
      state->committed.push_back(*commit);
    } else {
      attempt.set_reason("the coordinator ended before the commit");
      state->aborted.push_back(attempt);
    }
  }
}

bool Known(const JournalState& state, const CheckpointName& name) {
  const auto same = [&](const auto& record) { return NameOfRecord(record) == name; };
  return std::any_of(state.committed.begin(), state.committed.end(), same) ||
         std::any_of(state.aborted.begin(), state.aborted.end(), same) ||
         std::any_of(state.open.begin(), state.open.end(), same);
}

// Where the journal does not speak any more (none is left, or the last one ends in bytes that do not verify), manifests
// do: those that it does not know and that verify completely count, in the order of (epoch, generation, attempt).
Status AdoptManifests(FileSystem* fs, const std::string& checkpoint_dir, JournalState* state) {
  if (!fs->Exists(checkpoint_dir)) return OkStatus();
  WEFT_ASSIGN_OR_RETURN(const std::vector<std::string> files, fs->ListDir(checkpoint_dir));
  std::vector<CheckpointName> names;
  for (const std::string& file : files) {
    const auto name = ParseManifestFileName(file);
    if (!name || Known(*state, *name)) continue;
    if (state->previous_epoch == 0 || name->epoch == state->previous_epoch) names.push_back(*name);
  }
  std::sort(names.begin(), names.end(), [](const CheckpointName& a, const CheckpointName& b) {
    return std::tie(a.epoch, a.generation, a.attempt) < std::tie(b.epoch, b.generation, b.attempt);
  });
  for (const CheckpointName& name : names) {
    const StatusOr<journal::SaveCommit> commit = VerifiedCommit(fs, checkpoint_dir, name);
    if (commit.ok()) state->committed.push_back(*commit);
    WEFT_LOG(WARNING) << "journal: the journal does not know " << ManifestFileName(name) << ": "
                      << (commit.ok() ? "verified and adopted" : commit.status().ToString());
  }
  return OkStatus();
}

// The highest epoch that any name in coord/ or ckpt/ mentions: tokens are never used twice, even if journals are lost.
StatusOr<uint64_t> HighestEpoch(FileSystem* fs, const std::string& run_dir) {
  WEFT_ASSIGN_OR_RETURN(const std::vector<uint64_t> epochs, ListEpochs(fs, run_dir));
  uint64_t highest = epochs.empty() ? 0 : epochs.back();
  const std::string checkpoint_dir = CheckpointDir(run_dir);
  if (!fs->Exists(checkpoint_dir)) return highest;
  WEFT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs->ListDir(checkpoint_dir));
  for (const std::string& text : names) {
    if (const auto name = ParseManifestFileName(text)) highest = std::max(highest, name->epoch);
    if (const auto name = ParseAttemptDirectoryName(text)) highest = std::max(highest, name->epoch);
  }
  return highest;
}

journal::Record OpenRecord(uint64_t epoch, const JournalState& state) {
  journal::Record record;
  journal::EpochOpen* open = record.mutable_epoch_open();
  open->set_format(kJournalFormat);
  open->set_epoch(epoch);
  open->set_previous_epoch(state.previous_epoch);
  open->set_accepted_bytes(state.accepted_bytes);
  open->set_accepted_crc(state.accepted_crc);
  open->mutable_adopted()->Add(state.committed.begin(), state.committed.end());
  open->mutable_aborted()->Add(state.aborted.begin(), state.aborted.end());
  return record;
}

}  // namespace

std::string EpochLogName(uint64_t epoch) {
  char name[64];
  std::snprintf(name, sizeof name, "epoch-%07llu.log", static_cast<unsigned long long>(epoch));
  return name;
}

StatusOr<std::vector<uint64_t>> ListEpochs(FileSystem* fs, const std::string& run_dir) {
  std::vector<uint64_t> epochs;
  if (!fs->Exists(CoordDir(run_dir))) return epochs;
  WEFT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs->ListDir(CoordDir(run_dir)));
  for (const std::string& name : names) {
    unsigned long long epoch = 0;
    if (std::sscanf(name.c_str(), "epoch-%llu.log", &epoch) == 1 && EpochLogName(epoch) == name) {
      epochs.push_back(epoch);
    }
  }
  std::sort(epochs.begin(), epochs.end());
  return epochs;
}

LogContents ParseLog(std::string_view bytes) {
  LogContents log;
  size_t offset = 0;
  while (bytes.size() - offset >= kRecordHeaderBytes) {
    const uint32_t length = GetU32(bytes.substr(offset, 4));
    const uint32_t crc = GetU32(bytes.substr(offset + 4, 4));
    if (length == 0 || length > kMaxRecordBytes ||
        bytes.size() - offset - kRecordHeaderBytes < length)
      break;
    const std::string_view payload = bytes.substr(offset + kRecordHeaderBytes, length);
    journal::Record record;
    if (Crc32c(payload.data(), payload.size()) != crc ||
        !record.ParseFromArray(payload.data(), static_cast<int>(length))) {
      break;
    }
    log.records.push_back(std::move(record));
    offset += kRecordHeaderBytes + length;
  }
  log.accepted_bytes = offset;
  log.accepted_crc = Crc32c(bytes.data(), offset);
  return log;
}

StatusOr<JournalState> ReplayJournal(FileSystem* fs, const std::string& run_dir,
                                     uint64_t before_epoch) {
  WEFT_ASSIGN_OR_RETURN(const std::vector<uint64_t> epochs, ListEpochs(fs, run_dir));
  for (auto epoch = epochs.rbegin(); epoch != epochs.rend(); ++epoch) {
    if (*epoch >= before_epoch) continue;
    WEFT_ASSIGN_OR_RETURN(const std::string bytes, fs->ReadFile(LogPath(run_dir, *epoch)));
    const LogContents log = ParseLog(bytes);
    // Whoever claimed this epoch died before it took over: nothing was ever done in it.
    if (log.records.empty() || !log.records.front().has_epoch_open()) continue;
    JournalState state;
    state.previous_epoch = *epoch;
    state.accepted_bytes = log.accepted_bytes;
    state.accepted_crc = log.accepted_crc;
    state.torn = log.accepted_bytes != bytes.size();
    for (const journal::Record& record : log.records) Apply(record, *epoch, &state);
    return state;
  }
  return JournalState{};
}

StatusOr<JournalState> ReplayJournal(FileSystem* fs, const std::string& run_dir) {
  return ReplayJournal(fs, run_dir, UINT64_MAX);
}

Journal::Journal(FileSystem* fs, std::string run_dir, uint64_t epoch,
                 std::unique_ptr<WritableFile> file)
    : fs_(fs), run_dir_(std::move(run_dir)), epoch_(epoch), file_(std::move(file)) {}

StatusOr<std::unique_ptr<Journal>> Journal::Open(FileSystem* fs, const std::string& run_dir) {
  WEFT_RETURN_IF_ERROR(fs->MakeDirs(CoordDir(run_dir)));
  WEFT_RETURN_IF_ERROR(fs->SyncDir(run_dir));
  // Claim first, read later: an old coordinator that still commits sees the claim, or its commit is seen here.
  WEFT_ASSIGN_OR_RETURN(const uint64_t highest, HighestEpoch(fs, run_dir));
  const uint64_t epoch = highest + 1;
  WEFT_ASSIGN_OR_RETURN(auto file, fs->CreateExclusive(LogPath(run_dir, epoch)));
  WEFT_RETURN_IF_ERROR(fs->SyncDir(CoordDir(run_dir)));
  WEFT_ASSIGN_OR_RETURN(JournalState state, ReplayJournal(fs, run_dir, epoch));
  if (state.previous_epoch == 0 || state.torn) {
    WEFT_RETURN_IF_ERROR(AdoptManifests(fs, CheckpointDir(run_dir), &state));
  }
  ResolveOpenAttempts(fs, CheckpointDir(run_dir), &state);
  std::unique_ptr<Journal> journal(new Journal(fs, run_dir, epoch, std::move(file)));
  WEFT_RETURN_IF_ERROR(journal->Append(OpenRecord(epoch, state)));
  journal->recovered_ = std::move(state);
  return journal;
}

Status Journal::Append(journal::Record record) {
  if (!broken_.ok()) return broken_;
  record.set_unix_ms(UnixMs());
  const std::string bytes = EncodeRecord(record);
  const Status written = file_->Append(bytes);
  if (!written.ok()) {
    // Half a record would hide all that follow it.
    const Status cut = file_->Truncate(size_);
    if (!cut.ok()) broken_ = written.WithContext("the journal cannot be written any more");
    return written.WithContext("journal");
  }
  const Status synced = file_->Sync();
  if (!synced.ok()) {
    broken_ = synced.WithContext("the journal cannot be written any more");
    return broken_;
  }
  size_ += bytes.size();
  return OkStatus();
}

StatusOr<bool> Journal::Superseded() const {
  WEFT_ASSIGN_OR_RETURN(const std::vector<uint64_t> epochs, ListEpochs(fs_, run_dir_));
  return !epochs.empty() && epochs.back() > epoch_;
}

}  // namespace weft
