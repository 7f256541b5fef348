#include <cstddef>

#include "cluster/base/logging.h"
#include "dataloader/bpe_trainer.h"
#include "tests/dataloader/mix_world.h"
#include "tests/dataloader/test_images.h"

namespace weft {
namespace {

// Pictures with captions, or blocks of text.
class SimpleWorld : public MixWorld {
 public:
  SimpleWorld(const std::string& dir, SampleFamily family)
      : MixWorld(UsualMixOptions(family)), dir_(dir) {
    const bool text = family == SampleFamily::kMaskedText;
    options_.context_length = text ? 24 : 16;
    const BpeStyle style = text ? BpeStyle::kRoberta : BpeStyle::kClip;
    const auto vocabulary = BpeTrainer(style).Train(BpeFixedEntries(style));
    WEFT_CHECK(vocabulary.ok()) << vocabulary.status();
    options_.data.set_vocabulary(Write("vocab-" + Name(style) + ".txt", *vocabulary));
    for (int set = 0; set < 3; ++set) AddSet(set, text);
  }

 private:
  static std::string Name(BpeStyle style) { return style == BpeStyle::kClip ? "clip" : "roberta"; }

  std::string Write(const std::string& name, const std::string& bytes) const {
    return WriteMixFile(dir_ + "/" + name, bytes);
  }

  void AddSet(int set, bool text) {
    DataSetRecipe* recipe = options_.data.add_sets();
    recipe->set_name("set-" + std::to_string(set));
    const std::string stem = "set-" + std::to_string(set) + (text ? "-text" : "-images");
    if (text) {
      recipe->add_shards(Write(stem + ".txt", Sentences(kMixSizes[set])));
      return;
    }
    auto samples = MakeSamples(set * 10000, kMixSizes[set], 20);
    for (int i = 0; i < kMixSizes[set]; ++i) {
      auto& members = samples[static_cast<size_t>(i)].second;
      members["json"] = R"({"captions": [")" + members["txt"] + R"(", "one of ours"]})";
      if (IsBadOfMix(set, i)) {
        members["jpg"].resize(static_cast<size_t>(i % 3 == 0 ? 20 : 150));
        bad_.insert(first_ + i);
      }
    }
    first_ += kMixSizes[set];
    const auto half = static_cast<std::ptrdiff_t>(samples.size() * 2 / 5);
    WriteShard(dir_ + "/" + stem + "-0.tar", {samples.begin(), samples.begin() + half});
    WriteShard(dir_ + "/" + stem + "-1.tar", {samples.begin() + half, samples.end()});
    recipe->add_shards(dir_ + "/" + stem + "-{0..1}.tar");
    if (set == 0) {
      recipe->set_text_extension("json");
      recipe->set_text_field("captions");
    }
  }

  // About as many blocks as `blocks`: sentences of 3 to 21 bytes, some documents.
  static std::string Sentences(int blocks) {
    std::string text;
    for (int i = 0; i < blocks * 2; ++i) {
      text += std::string(static_cast<size_t>(3 + i * 7 % 19), static_cast<char>('a' + i % 26));
      text += i % 9 == 8 ? "\n\n" : "\n";
    }
    return text;
  }

  const std::string dir_;
  int64_t first_ = 0;
};

}  // namespace

std::unique_ptr<MixWorld> MakeSimpleWorld(const std::string& dir, SampleFamily family) {
  return std::make_unique<SimpleWorld>(dir, family);
}

}  // namespace weft
