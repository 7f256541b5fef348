// What the grouping of batches by kind is tested and measured on: a mix of conversations with and without a picture.
//
// Thread rule: one thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cluster/base/logging.h"
#include "dataloader/batch_grouper.h"
#include "dataloader/bpe_trainer.h"
#include "dataloader/loader.h"
#include "dataloader/sample_mix.h"
#include "tests/dataloader/test_images.h"

namespace weft {

// Two sets of conversations, most of the first about a picture, few of the second; some pictures are bad.
class PictureMix {
 public:
  static constexpr int kSlots = 6;
  static constexpr int64_t kBatch = 24;

  explicit PictureMix(const std::string& dir, int side = 16) : dir_(dir) {
    options_.family = SampleFamily::kConversation;
    options_.seed = 5;
    options_.batch.set_slots(kSlots);
    options_.batch.set_micro_batches(2);
    options_.batch.set_micro_batch_size(2);
    options_.image_size = side - 4;
    options_.context_length = 96;
    options_.patches = 4;
    DataRecipe& data = options_.data;
    data.mutable_conversation()->set_version(ConversationRecipe::V1);
    data.mutable_conversation()->set_system("Talk.");
    data.mutable_order()->set_lanes(12);
    data.mutable_order()->set_chunk(8);
    data.mutable_order()->set_window(4);
    data.mutable_batcher()->set_group(BatcherRecipe::PICTURES);
    data.mutable_batcher()->set_bucket(220);  // 10 batches
    const auto vocabulary = BpeTrainer(BpeStyle::kLlava).Train(BpeFixedEntries(BpeStyle::kLlava));
    WEFT_CHECK(vocabulary.ok()) << vocabulary.status();
    WriteBytes(dir_ + "/vocab.txt", *vocabulary);
    data.set_vocabulary(dir_ + "/vocab.txt");
    AddSet("seen", 500, 10, side);
    AddSet("told", 260, 3, side);
    MixSegment* segment = data.mutable_mix()->add_segments();
    segment->set_from_step(24);
    segment->add_weights(1);
    segment->add_weights(3);
  }

  LoaderOptions& options() { return options_; }
  const std::set<int64_t>& bad() const { return bad_; }
  bool HasPicture(int64_t id) const { return pictures_[static_cast<size_t>(id)]; }

 private:
  // One in `every` is another kind than most of the set.
  void AddSet(const std::string& name, int count, int every, int side) {
    auto samples = MakeSamples(static_cast<int>(pictures_.size()), count, side);
    for (int i = 0; i < count; ++i) {
      auto& members = samples[static_cast<size_t>(i)].second;
      const bool picture = (i % every == 1) != (every > 3);
      const std::string question = picture ? "<image>\\nWhat is it?" : "Who are you?";
      members["json"] = R"({"conversations": [{"from": "human", "value": ")" + question +
                        R"("}, {"from": "gpt", "value": ")" + std::string(i % 13 + 1, 'a') +
                        R"("}]})";
      members.erase("txt");
      if (!picture) members.erase("jpg");
      if (picture && i % 50 == 7) {
        members["jpg"].resize(30);
        bad_.insert(static_cast<int64_t>(pictures_.size()));
      }
      pictures_.push_back(picture);
    }
    WriteShard(dir_ + "/" + name + ".tar", samples);
    DataSetRecipe* set = options_.data.add_sets();
    set->set_name(name);
    set->add_shards(dir_ + "/" + name + ".tar");
    set->set_weight(1);
  }

  const std::string dir_;
  LoaderOptions options_;
  std::vector<bool> pictures_;
  std::set<int64_t> bad_;
};

// The mix as a loader opens it, its order and its grouper.
struct GroupedRows {
  explicit GroupedRows(PictureMix* world) {
    const LoaderOptions& options = world->options();
    auto opened = SampleMix::Open(options);
    WEFT_CHECK(opened.ok()) << opened.status();
    mix = std::move(*opened);
    auto order = MakeOrder(options.data, options.batch, options.seed, mix->OrderedSets());
    WEFT_CHECK(order.ok()) << order.status();
    grouper =
        std::make_unique<BatchGrouper>(options.data, options.seed, std::move(*order), mix.get());
  }

  std::vector<int64_t> Ids(int64_t step, bool grouped) const {
    std::vector<int64_t> ids;
    for (int64_t slot = 0; slot < PictureMix::kSlots; ++slot) {
      const auto rows = grouped ? *grouper->Rows(step, slot) : grouper->order().Rows(step, slot);
      for (const SampleRef& ref : rows) ids.push_back(mix->Id(ref));
    }
    return ids;
  }

  std::unique_ptr<SampleMix> mix;
  std::unique_ptr<BatchGrouper> grouper;
};

}  // namespace weft
