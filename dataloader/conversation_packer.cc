#include "dataloader/conversation_packer.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <thread>
#include <utility>

#include "cluster/base/clock.h"
#include "cluster/base/hash.h"
#include "cluster/base/logging.h"
#include "cluster/base/mutex.h"
#include "dataloader/best_fit.h"

namespace weft {
namespace {

constexpr int64_t kGroup = 512;
constexpr auto kProgress = std::chrono::seconds(10);

// What a thread makes of a group.
struct PackedGroup {
  std::string content;
  std::vector<std::vector<PackMember>> packs;
  std::vector<uint32_t> pictures;
  int64_t left_out = 0;
  std::string first_left_out;
};

// Ids [first, end) of one group.
class GroupPacker {
 public:
  GroupPacker(const ConversationSet& conversations, const DataSet::ShardView& shard)
      : conversations_(conversations), shard_(shard), reader_(conversations) {}

  Status Read(int64_t first, int64_t end, PackedGroup* group) {
    std::string texts;
    for (int64_t id = first; id < end; ++id) {
      WEFT_ASSIGN_OR_RETURN(const std::string text, reader_.Fingerprint(id));
      texts += text;
    }
    group->content = Sha256Hex(texts);
    return OkStatus();
  }

  Status Pack(int64_t first, int64_t end, PackedGroup* group) {
    std::vector<RowNeeds> needs;
    std::vector<PackMember> members;
    for (int64_t id = first; id < end; ++id) {
      const StatusOr<RowNeeds> measured = reader_.Measure(id);
      if (!measured.ok() && !IsBadSample(measured.status())) return measured.status();
      if (!measured.ok()) {
        if (group->left_out++ == 0) {
          group->first_left_out =
              conversations_.set->Describe(id) + ": " + measured.status().message();
        }
        continue;
      }
      needs.push_back(*measured);
      members.push_back(
          {static_cast<uint32_t>(id - shard_.first), static_cast<uint32_t>(measured->tokens)});
    }
    const LoaderOptions& options = conversations_.options;
    for (const auto& row : PackBestFit(needs, options.context_length, options.pictures)) {
      std::vector<PackMember>& pack = group->packs.emplace_back();
      uint32_t pictures = 0;
      for (const int32_t item : row) {
        pack.push_back(members[static_cast<size_t>(item)]);
        pictures += needs[static_cast<size_t>(item)].picture ? 1 : 0;
      }
      group->pictures.push_back(pictures);
    }
    return OkStatus();
  }

 private:
  const ConversationSet& conversations_;
  const DataSet::ShardView& shard_;
  ConversationReader reader_;
};

// Says now and then how far a shard is.
class Progress {
 public:
  Progress(const std::string& what, int64_t total) : what_(what), total_(total) {}

  void Add(int64_t samples) {
    MutexLock lock(mutex_);
    done_ += samples;
    if (Clock::now() < next_) return;
    next_ = Clock::now() + kProgress;
    WEFT_LOG(INFO) << "packing " << what_ << ": " << done_ << " of " << total_ << " conversations";
  }

 private:
  const std::string what_;
  const int64_t total_;
  Mutex mutex_;
  int64_t done_ WEFT_GUARDED_BY(mutex_) = 0;
  TimePoint next_ WEFT_GUARDED_BY(mutex_) = Clock::now() + kProgress;
};

using Step = Status (GroupPacker::*)(int64_t, int64_t, PackedGroup*);

// Each of `steps` on every group, groups dealt to threads. The error, if any, is that of the first group that has one.
StatusOr<std::vector<PackedGroup>> ForEachGroup(const ConversationSet& conversations,
                                                const DataSet::ShardView& shard,
                                                const std::vector<Step>& steps) {
  const int64_t samples = shard.end - shard.first;
  const auto count = static_cast<size_t>((samples + kGroup - 1) / kGroup);
  std::vector<PackedGroup> groups(count);
  std::vector<Status> results(count);
  std::atomic<size_t> next = 0;
  std::atomic<bool> failed = false;
  Progress progress(shard.path, samples);
  const auto work = [&] {
    GroupPacker packer(conversations, shard);
    for (size_t i = next++; i < count && !failed; i = next++) {
      const int64_t first = shard.first + static_cast<int64_t>(i) * kGroup;
      const int64_t end = std::min(first + kGroup, shard.end);
      for (const Step step : steps) {
        if (results[i].ok()) results[i] = (packer.*step)(first, end, &groups[i]);
      }
      if (!results[i].ok()) failed = true;
      progress.Add(end - first);
    }
  };
  const auto threads = std::min<size_t>(
      count, static_cast<size_t>(std::max(1, conversations.options.data.loader_threads())));
  std::vector<std::thread> helpers;
  for (size_t i = 1; i < threads; ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  for (const Status& result : results) WEFT_RETURN_IF_ERROR(result);
  return groups;
}

std::string ContentOf(const std::vector<PackedGroup>& groups) {
  std::string hashes;
  for (const PackedGroup& group : groups) hashes += group.content;
  return Sha256Hex(hashes);
}

}  // namespace

StatusOr<PackedShard> PackConversations(const ConversationSet& conversations,
                                        const DataSet::ShardView& shard) {
  WEFT_ASSIGN_OR_RETURN(
      const std::vector<PackedGroup> groups,
      ForEachGroup(conversations, shard, {&GroupPacker::Read, &GroupPacker::Pack}));
  PackedShard packed;
  packed.content = ContentOf(groups);
  for (const PackedGroup& group : groups) {
    for (size_t i = 0; i < group.packs.size(); ++i) {
      ConversationPack pack;
      pack.first_member = packed.members.size();
      pack.members = static_cast<uint32_t>(group.packs[i].size());
      pack.pictures = group.pictures[i];
      for (const PackMember& member : group.packs[i]) {
        pack.tokens += member.tokens;
        pack.squares += uint64_t{member.tokens} * member.tokens;
        packed.members.push_back(member);
      }
      packed.packs.push_back(pack);
    }
    if (packed.left_out == 0) packed.first_left_out = group.first_left_out;
    packed.left_out += group.left_out;
  }
  return packed;
}

StatusOr<std::string> ConversationContent(const ConversationSet& conversations,
                                          const DataSet::ShardView& shard) {
  WEFT_ASSIGN_OR_RETURN(const std::vector<PackedGroup> groups,
                        ForEachGroup(conversations, shard, {&GroupPacker::Read}));
  return ContentOf(groups);
}

}  // namespace weft
