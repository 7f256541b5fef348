// The coordinator's memory: an append-only log a coordinator epoch. A record is durable before any effect of
// it is visible. Two coordinators can never both be believed:
//   * epoch E is claimed by the exclusive creation of coord/epoch-E.log, then fsync of coord/, and only then are older
//     logs read;
//   * the first record, EPOCH_OPEN, says up to which byte the previous log counts and repeats the commits that it holds:
//     what the old coordinator appends later is void;
//   * who commits, syncs and then lists coord/: a higher epoch there means that it is superseded, outcome unknown.
// So an announced commit is never lost, and needs a file system with a coherent directory listing (not NFS with
// attribute caching).
//
// Errors: the file system's. After a failed write the log is cut back to its last record; if that fails too, or a sync
// does, the journal is broken for good and repeats its first error. Thread rule: one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/base/file_system.h"
#include "cluster/base/status.h"
#include "coordinator/journal.pb.h"

namespace weft {

// What the accepted part of the logs says.
struct JournalState {
  uint64_t previous_epoch = 0;  // 0: there was no log
  // Oldest first, in the order of their commits; retired ones are left out, bad ones are marked.
  std::vector<journal::SaveCommit> committed;
  // Aborted attempts, whose directories may go.
  std::vector<journal::SaveAbort> aborted;
  // Begun, neither committed nor aborted: the coordinator died in between. (Empty once Journal::Open is through.)
  std::vector<journal::SaveAbort> open;
  // How the last epoch ended, if it did.
  bool finished = false;
  int finished_exit_code = 0;
  uint64_t accepted_bytes = 0;
  uint32_t accepted_crc = 0;
  // The log goes on with bytes that do not verify: a torn last record, or damage.
  bool torn = false;
};

// "epoch-0000007.log".
std::string EpochLogName(uint64_t epoch);
// All epochs that have a log in <run_dir>/coord, ascending.
StatusOr<std::vector<uint64_t>> ListEpochs(FileSystem* fs, const std::string& run_dir);
// Records of one log up to the first that does not verify, and the length and CRC of that part.
struct LogContents {
  std::vector<journal::Record> records;
  uint64_t accepted_bytes = 0;
  uint32_t accepted_crc = 0;
};
LogContents ParseLog(std::string_view bytes);
// Replays the newest log that has an EPOCH_OPEN and is older than `before_epoch`. Changes nothing on disk.
StatusOr<JournalState> ReplayJournal(FileSystem* fs, const std::string& run_dir,
                                     uint64_t before_epoch);
// As the journal stands now, for readers such as `weft checkpoint list`.
StatusOr<JournalState> ReplayJournal(FileSystem* fs, const std::string& run_dir);

class Journal {
 public:
  // Claims the next epoch of <run_dir> (made if absent) and takes over: attempts whose manifest is there and verifies
  // are rolled forward, the others are aborted. Where no log is left, or the last one ends in bytes that do not verify,
  // checkpoints that it does not know are adopted if they verify completely.
  // AlreadyExists: another coordinator claims an epoch at this moment.
  static StatusOr<std::unique_ptr<Journal>> Open(FileSystem* fs, const std::string& run_dir);

  uint64_t epoch() const { return epoch_; }
  // What was taken over.
  const JournalState& recovered() const { return recovered_; }
  // Durable when it returns OK. If it does not, the record may or may not be there after a restart only if broken().
  Status Append(journal::Record record);
  // Nothing can be appended any more.
  bool broken() const { return !broken_.ok(); }
  // True if a higher epoch was claimed: this coordinator must leave without another word.
  StatusOr<bool> Superseded() const;

 private:
  Journal(FileSystem* fs, std::string run_dir, uint64_t epoch, std::unique_ptr<WritableFile> file);

  FileSystem* const fs_;
  const std::string run_dir_;
  const uint64_t epoch_;
  std::unique_ptr<WritableFile> file_;
  uint64_t size_ = 0;
  Status broken_;
  JournalState recovered_;
};

}  // namespace weft
