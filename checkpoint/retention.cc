#include "checkpoint/retention.h"

#include <algorithm>

namespace weft {
namespace {

std::string TrashDir(const std::string& checkpoint_dir) {
  return JoinPath(checkpoint_dir, "trash");
}

Status MoveToTrash(FileSystem* fs, const std::string& checkpoint_dir, const std::string& name) {
  const std::string from = JoinPath(checkpoint_dir, name);
  if (!fs->Exists(from)) return OkStatus();
  const std::string to = JoinPath(TrashDir(checkpoint_dir), name);
  if (fs->Exists(to)) WEFT_RETURN_IF_ERROR(fs->RemoveTree(to));
  WEFT_RETURN_IF_ERROR(fs->Rename(from, to));
  return fs->SyncDir(checkpoint_dir);
}

}  // namespace

RetentionDecision DecideRetention(const std::vector<RetentionEntry>& entries,
                                  const RetentionOptions& options) {
  const int keep = std::max(options.keep, 2);
  RetentionDecision decision;
  int newer_good = 0;
  int num_aborted = 0;
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    const bool aborted = entry->state == CheckpointState::kAborted;
    if (aborted || newer_good >= keep) decision.remove.push_back(entry->name);
    if (aborted) ++num_aborted;
    if (entry->state == CheckpointState::kCommitted) ++newer_good;
  }
  std::reverse(decision.remove.begin(), decision.remove.end());
  decision.reason = std::to_string(num_aborted) + " aborted, " +
                    std::to_string(decision.remove.size() - static_cast<size_t>(num_aborted)) +
                    " older than the newest " + std::to_string(keep);
  return decision;
}

Status RemoveCheckpoint(FileSystem* fs, const std::string& checkpoint_dir,
                        const CheckpointName& name) {
  const std::string manifest = ManifestFileName(name);
  const std::string directory = AttemptDirectoryName(name);
  if (!fs->Exists(JoinPath(checkpoint_dir, manifest)) &&
      !fs->Exists(JoinPath(checkpoint_dir, directory))) {
    return OkStatus();
  }
  WEFT_RETURN_IF_ERROR(fs->MakeDirs(TrashDir(checkpoint_dir)));
  // The manifest first: a directory without one is never believed, a manifest without its directory would be missed.
  WEFT_RETURN_IF_ERROR(MoveToTrash(fs, checkpoint_dir, manifest));
  WEFT_RETURN_IF_ERROR(MoveToTrash(fs, checkpoint_dir, directory));
  WEFT_RETURN_IF_ERROR(fs->RemoveTree(JoinPath(TrashDir(checkpoint_dir), manifest)));
  return fs->RemoveTree(JoinPath(TrashDir(checkpoint_dir), directory));
}

Status CleanUp(FileSystem* fs, const std::string& checkpoint_dir) {
  WEFT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs->ListDir(checkpoint_dir));
  for (const std::string& name : names) {
    const size_t stem = name.size() < 4 ? 0 : name.size() - 4;
    if (name.substr(stem) == ".tmp" && ParseManifestFileName(name.substr(0, stem))) {
      WEFT_RETURN_IF_ERROR(fs->Remove(JoinPath(checkpoint_dir, name)));
    }
  }
  const std::string trash = TrashDir(checkpoint_dir);
  if (!fs->Exists(trash)) return OkStatus();
  WEFT_ASSIGN_OR_RETURN(const std::vector<std::string> rubbish, fs->ListDir(trash));
  for (const std::string& name : rubbish) {
    WEFT_RETURN_IF_ERROR(fs->RemoveTree(JoinPath(trash, name)));
  }
  return OkStatus();
}

}  // namespace weft
