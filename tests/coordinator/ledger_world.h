// A run directory with its journal, committer and imagined workers: everything of one save, without processes.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/checkpoint_committer.h"
#include "coordinator/journal.h"
#include "tests/support/checkpoint_world.h"
#include "tests/support/fault_injecting_file_system.h"

namespace weft {

// One coordinator's life. The file system outlives it.
class LedgerWorld {
 public:
  static constexpr int kWorld = 2;
  explicit LedgerWorld(FaultInjectingFileSystem* fs, int keep = 2) : fs_(fs), keep_(keep) {}

  // Claims an epoch, takes over, and activates its first generation.
  Status Open() {
    WEFT_RETURN_IF_ERROR(fs_->MakeDirs("run"));
    WEFT_RETURN_IF_ERROR(fs_->SyncDir("."));
    WEFT_ASSIGN_OR_RETURN(journal_, Journal::Open(fs_, "run"));
    WEFT_ASSIGN_OR_RETURN(committer_, CheckpointCommitter::Create(fs_, "run", journal_.get(),
                                                                  {.ledger = {}, .keep = keep_}));
    token_ = {journal_->epoch(), 0};
    return NewGeneration();
  }

  Status NewGeneration() {
    ++token_.generation;
    journal::Record record;
    record.mutable_generation_active()->set_generation(token_.generation);
    WEFT_RETURN_IF_ERROR(journal_->Append(std::move(record)));
    committer_->OnGeneration(now_, token_, kWorld);
    return OkStatus();
  }

  // A whole save by all ranks. True: it was announced as committed to all of them.
  bool Save(int64_t step) {
    int committed = 0;
    std::vector<LedgerMessage> inbox;
    for (int rank = 0; rank < kWorld; ++rank) {
      Take(committer_->OnSaveRequest(now_, token_, rank, step, TinyState(step).SerializeAsString()),
           &inbox);
    }
    for (size_t i = 0; i < inbox.size(); ++i) {
      const LedgerMessage message = inbox[i];
      if (const auto* grant = std::get_if<SendGrant>(&message)) {
        const auto shard =
            WriteTinyShard(fs_, committer_->checkpoint_dir(), grant->name, grant->rank, kWorld);
        Take(committer_->OnShardPrepared(now_, token_, grant->rank, step, grant->name.attempt,
                                         shard.ok() ? shard->SerializeAsString() : "",
                                         shard.status().ToString()),
             &inbox);
      } else if (std::get<SendOutcome>(message).committed) {
        ++committed;
      } else {
        reason_ = std::get<SendOutcome>(message).reason;
      }
    }
    EXPECT_TRUE(committed == 0 || committed == kWorld) << "some ranks only were told of a commit";
    return committed == kWorld;
  }

  std::vector<int64_t> CommittedSteps() const {
    std::vector<int64_t> steps;
    for (const auto& commit : committer_->Committed()) steps.push_back(commit.step());
    return steps;
  }

  // Every committed checkpoint loads, element by element.
  Status CheckCommitted() const {
    for (const auto& commit : committer_->Committed()) {
      WEFT_ASSIGN_OR_RETURN(
          const auto manifest,
          ReadManifest(fs_, JoinPath(committer_->checkpoint_dir(), commit.manifest())));
      WEFT_RETURN_IF_ERROR(CheckTinyCheckpoint(fs_, committer_->checkpoint_dir(), manifest));
      WEFT_RETURN_IF_ERROR(VerifyCheckpoint(fs_, committer_->checkpoint_dir(), manifest).status());
    }
    return OkStatus();
  }

  // What lies in ckpt/ that no committed checkpoint owns.
  std::vector<std::string> Leftovers() const {
    std::vector<std::string> leftovers;
    const std::vector<std::string> names = fs_->ListDir("run/ckpt").value();
    for (const std::string& name : names) {
      bool owned = name == "trash";
      for (const auto& commit : committer_->Committed()) {
        const CheckpointName c = {commit.step(), commit.epoch(), commit.generation(),
                                  commit.attempt()};
        owned = owned || name == ManifestFileName(c) || name == AttemptDirectoryName(c);
      }
      if (!owned) leftovers.push_back(name);
    }
    return leftovers;
  }

  CheckpointCommitter& committer() { return *committer_; }
  Journal& journal() { return *journal_; }
  Token token() const { return token_; }
  const std::string& reason() const { return reason_; }
  TimePoint now_ = TimePoint() + FromSeconds(1);

 private:
  static void Take(std::vector<LedgerMessage> messages, std::vector<LedgerMessage>* inbox) {
    for (LedgerMessage& message : messages) inbox->push_back(std::move(message));
  }

  FaultInjectingFileSystem* fs_;
  int keep_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<CheckpointCommitter> committer_;
  Token token_;
  std::string reason_;
};

}  // namespace weft
