#include <cstddef>
#include <cstdlib>
#include <vector>

#include "cluster/base/logging.h"
#include "dataloader/bpe_trainer.h"
#include "dataloader/bpe_vocabulary.h"
#include "dataloader/conversation_packs.h"
#include "dataloader/conversation_set.h"
#include "dataloader/sample_mix.h"
#include "tests/dataloader/mix_world.h"
#include "tests/dataloader/test_images.h"

namespace weft {
namespace {

using Json = nlohmann::ordered_json;

// Packed conversations; kMixSizes are numbers of rows. A conversation's answer begins with its number.
class PackedWorld : public MixWorld {
 public:
  explicit PackedWorld(const std::string& dir)
      : MixWorld(UsualMixOptions(SampleFamily::kConversation)), dir_(dir) {
    options_.patches = 4;
    options_.pictures = kPictures;
    options_.context_length = kRow;
    options_.data.mutable_conversation()->set_version(ConversationRecipe::V1);
    options_.data.mutable_conversation()->set_system("");
    options_.data.mutable_conversation()->set_pack(true);
    const auto vocabulary = BpeTrainer(BpeStyle::kLlava).Train(BpeFixedEntries(BpeStyle::kLlava));
    WEFT_CHECK(vocabulary.ok()) << vocabulary.status();
    options_.data.set_vocabulary(WriteMixFile(dir_ + "/vocab-llava.txt", *vocabulary));
    vocabulary_ = std::move(*BpeVocabulary::Load(options_.data.vocabulary(), 0, BpeStyle::kLlava));
    for (int set = 0; set < 3; ++set) AddSet(set);
  }

  // Each row holds exactly the conversations of its pack that can be used.
  void Check(const MicroBatch& batch) const override {
    auto& own = const_cast<MicroBatch&>(batch);
    for (size_t row = 0; row < batch.sample_ids.size(); ++row) {
      const auto& wanted = rows_.at(static_cast<size_t>(batch.sample_ids[row]));
      const int32_t* ids = own.Find("ids")->I32(row);
      const int32_t* segment_at = own.Find("segment_at")->I32(row);
      const int32_t* image_at = own.Find("image_at")->I32(row);
      std::vector<int> got;
      for (int begin = 0, end = 0; begin < kRow && ids[begin] != 0; begin = end) {
        std::vector<int> text;
        for (end = begin; end < kRow && segment_at[end] == begin; ++end) text.push_back(ids[end]);
        WEFT_CHECK_LT(begin, end);
        const std::string said = vocabulary_->Decode(text);
        got.push_back(std::atoi(said.c_str() + said.find("ASSISTANT:") + 11));
      }
      WEFT_CHECK(got == wanted) << "row " << batch.sample_ids[row] << " holds others";
      int seeing = 0;
      for (const int number : wanted) seeing += Seeing(number % kOfSet) ? 1 : 0;
      for (int p = 0; p < kPictures; ++p) WEFT_CHECK_EQ(image_at[p] >= 0, p < seeing);
    }
  }

  Json Figures() const override {
    return {{"conversations", conversations_},
            {"in_rows_exactly_once", in_rows_},
            {"in_no_row", conversations_ - in_rows_},
            {"broken_pictures_in_rows", broken_},
            {"rows_full", fill_}};
  }

 private:
  static constexpr int kRow = 96;
  static constexpr int kPictures = 2;
  static constexpr int kOfSet = 100000;
  static bool Seeing(int i) { return i % 3 != 2; }
  // Of conversation `i`: it does not parse; its picture is cut short.
  static bool Broken(int set, int i) { return i % 211 == 5 + set; }
  static bool Blind(int set, int i) { return Seeing(i) && IsBadOfMix(set, i); }

  static std::string Talk(int number, int length, bool seeing) {
    std::string answer = std::to_string(number);
    answer.resize(static_cast<size_t>(length), ' ');
    answer.back() = '.';
    return R"({"conversations": [{"from": "human", "value": ")" +
           std::string(seeing ? "<image>\\nWhat?" : "Hello?") +
           R"("}, {"from": "gpt", "value": ")" + answer + "\"}]}";
  }

  // The first `common` conversations share rows, the others have one each.
  std::vector<TestSample> Make(int set, int common, int count) const {
    auto samples = MakeSamples(set * kOfSet, count, 20);
    for (int i = 0; i < count; ++i) {
      auto& members = samples[static_cast<size_t>(i)].second;
      const int length = i < common ? 7 + i * i % 41 : kRow;
      members["json"] = Broken(set, i) ? "{" : Talk(set * kOfSet + i, length, Seeing(i));
      if (!Seeing(i)) members.erase("jpg");
      if (Blind(set, i)) members["jpg"].resize(static_cast<size_t>(i % 2 == 0 ? 20 : 150));
    }
    return samples;
  }

  void Write(int set, const std::vector<TestSample>& samples, size_t half) const {
    const auto middle = samples.begin() + static_cast<std::ptrdiff_t>(half);
    WriteShard(dir_ + "/set-" + std::to_string(set) + "-0.tar", {samples.begin(), middle});
    WriteShard(dir_ + "/set-" + std::to_string(set) + "-1.tar", {middle, samples.end()});
  }

  ConversationPacks Open(int set) const {
    const auto opened = ConversationSet::Open(OptionsOfSet(options_, set), SampleUse::kTrain);
    WEFT_CHECK(opened.ok()) << opened.status();
    auto packs = ConversationPacks::Open(*opened);
    WEFT_CHECK(packs.ok()) << packs.status();
    return std::move(*packs);
  }

  // Conversations that fill a row alone bring the set to kMixSizes[set] rows.
  void AddSet(int set) {
    DataSetRecipe* recipe = options_.data.add_sets();
    recipe->set_name("set-" + std::to_string(set));
    recipe->add_shards(dir_ + "/set-" + std::to_string(set) + "-{0..1}.tar");
    const int common = kMixSizes[set] * 4 / 3;
    const auto half = static_cast<size_t>(common) * 2 / 5;
    int count = common;
    Write(set, Make(set, common, count), half);
    int64_t rows = Open(set).num_packs();
    for (; rows < kMixSizes[set]; ++count) rows += Broken(set, count) ? 0 : 1;
    Write(set, Make(set, common, count), half);
    const ConversationPacks packs = Open(set);
    WEFT_CHECK_EQ(packs.num_packs(), kMixSizes[set]);
    WEFT_CHECK_GT(count, common + 20);
    ListRows(set, packs);
    conversations_ += count;
  }

  // Proves that each conversation is in one row at most.
  void ListRows(int set, const ConversationPacks& packs) {
    std::set<int64_t> seen;
    for (int64_t row = 0; row < packs.num_packs(); ++row) {
      const ConversationPacks::View view = packs.Find(row);
      std::vector<int> good;
      for (const PackMember& member : view.members) {
        const auto i = static_cast<int>(view.first_id + member.sample);
        WEFT_CHECK(seen.insert(i).second && !Broken(set, i)) << i;
        if (!Blind(set, i)) good.push_back(set * kOfSet + i);
        broken_ += Blind(set, i) ? 1 : 0;
      }
      if (good.empty()) bad_.insert(static_cast<int64_t>(rows_.size()));
      rows_.push_back(std::move(good));
    }
    WEFT_CHECK_EQ(static_cast<int64_t>(seen.size()), packs.num_members());
    in_rows_ += packs.num_members();
    fill_.push_back(packs.fill());
  }

  const std::string dir_;
  std::unique_ptr<BpeVocabulary> vocabulary_;
  // Of each row of all sets: the conversations that a batch holds.
  std::vector<std::vector<int>> rows_;
  int64_t conversations_ = 0;
  int64_t in_rows_ = 0;
  int64_t broken_ = 0;
  std::vector<double> fill_;
};

}  // namespace

std::unique_ptr<MixWorld> MakePackedWorld(const std::string& dir) {
  return std::make_unique<PackedWorld>(dir);
}

}  // namespace weft
