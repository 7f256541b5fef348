#include "worker/init_from.h"

#include <ATen/ATen.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/shard_writer.h"
#include "tests/support/temp_dir.h"
#include "tests/worker/rank_threads.h"

namespace weft::testing {
namespace {

Recipe MakeRecipe(const std::vector<std::string>& trainable) {
  Recipe recipe;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "precision: BF16 batch { slots: 1 micro_batches: 1 micro_batch_size: 1 } "
      "model { roberta { max_length: 6 vocab_size: 101 width: 32 layers: 2 heads: 4 } }",
      &recipe));
  for (const std::string& pattern : trainable) recipe.add_trainable(pattern);
  return recipe;
}

// A checkpoint of one rank in `dir`; returns what `from` is to be.
std::string Save(RankState* rank, const std::string& dir) {
  std::vector<SliceData> slices;
  for (const StateSlice& slice : rank->optimizer().ExportState()) {
    slices.push_back(BoxSlice(slice.name, slice.dtype, slice.global_shape, slice.box.offsets,
                              slice.box.lengths, slice.flat_begin, slice.flat_end, slice.data));
  }
  const CheckpointName name = {.step = 1, .epoch = 1, .generation = 1, .attempt = 1};
  checkpoint::Manifest manifest;
  manifest.set_format(kManifestFormat);
  manifest.set_directory(AttemptDirectoryName(name));
  manifest.set_epoch(name.epoch);
  manifest.set_generation(name.generation);
  manifest.set_attempt(name.attempt);
  *manifest.mutable_state() = StateOf(rank->recipe(), name.step);
  ShardWriterOptions options;
  options.epoch = name.epoch;
  options.generation = name.generation;
  options.step = name.step;
  options.attempt = name.attempt;
  const std::string directory = dir + "/" + manifest.directory();
  EXPECT_TRUE(PosixFileSystem()->MakeDirs(directory).ok());
  const auto shard = WriteShard(PosixFileSystem(), directory, options, slices);
  EXPECT_TRUE(shard.ok()) << shard.status();
  *manifest.add_shards() = *shard;
  EXPECT_TRUE(WriteManifest(PosixFileSystem(), dir, manifest).ok());
  return dir + "/" + ManifestFileName(name);
}

class InitFromTest : public ::testing::Test {
 protected:
  // Saves a run that trained its embeddings: those are in fp32 there, the frozen layers in bf16.
  void SetUp() override {
    OnAllRanks(MakeRecipe({"roberta.embeddings.*"}), [&](int, RankState* rank) -> Status {
      rank->parameters().Initialize(3);
      WEFT_RETURN_IF_ERROR(rank->parameters().Publish());
      for (const auto& parameter : rank->parameters().parameters())
        values_[parameter->spec.name] = parameter->value.detach().clone();
      from_ = Save(rank, dir_.path());
      return OkStatus();
    });
  }
  InitFrom From(const std::string& pattern) const {
    InitFrom init;
    init.set_checkpoint(from_);
    init.set_parameters(pattern);
    return init;
  }

  TempDir dir_;
  std::string from_;
  std::map<std::string, at::Tensor> values_;
};

TEST_F(InitFromTest, ConvertsBetweenFrozenAndTrainedParameters) {
  OnAllRanks(MakeRecipe({"roberta.encoder.*"}), [&](int, RankState* rank) -> Status {
    WEFT_RETURN_IF_ERROR(InitializeFrom(From("*"), PosixFileSystem(), rank));
    for (const auto& parameter : rank->parameters().parameters()) {
      EXPECT_TRUE(at::equal(parameter->value, values_.at(parameter->spec.name)))
          << parameter->spec.name;
    }
    for (const ParameterGroup& group : rank->parameters().groups())
      EXPECT_TRUE(at::equal(group.master.to(group.values.scalar_type()), group.values));
    return OkStatus();
  });
}

TEST_F(InitFromTest, TakesOnlyWhatIsNamed) {
  OnAllRanks(MakeRecipe({}), [&](int, RankState* rank) -> Status {
    rank->parameters().Initialize(4);
    WEFT_RETURN_IF_ERROR(
        InitializeFrom(From("roberta.encoder.layer.0.*"), PosixFileSystem(), rank));
    const std::string weight = "attention.self.query.weight";
    const auto same = [&](const std::string& name) {
      return at::equal(rank->parameters().Get(name)->value, values_.at(name));
    };
    EXPECT_TRUE(same("roberta.encoder.layer.0." + weight));
    EXPECT_FALSE(same("roberta.encoder.layer.1." + weight));
    return OkStatus();
  });
}

TEST_F(InitFromTest, RefusesAPatternThatNamesNothing) {
  OnAllRanks(MakeRecipe({}), [&](int, RankState* rank) -> Status {
    const Status status = InitializeFrom(From("roberta.encoder.layers.*"), PosixFileSystem(), rank);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find("match 'roberta.encoder.layers.*'; it has '"),
              std::string::npos)
        << status;
    return OkStatus();
  });
}

}  // namespace
}  // namespace weft::testing
