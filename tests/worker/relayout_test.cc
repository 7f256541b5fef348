// A run's state through the files of a checkpoint, from each layout to the next: every element arrives, once, with its bits.
#include <ATen/ATen.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/manifest.h"
#include "checkpoint/shard_writer.h"
#include "cluster/base/hash.h"
#include "parallel/engine/dtypes.h"
#include "tests/support/temp_dir.h"
#include "tests/worker/rank_threads.h"

namespace weft::testing {
namespace {

// What element `index` of a tensor of the state is: small whole numbers, which every type has.
double Element(const std::string& tensor, int64_t index) {
  return static_cast<double>(HashCombine(Fnv1a64(tensor), static_cast<uint64_t>(index)) % 255) -
         127;
}

at::Tensor Elements(const std::string& tensor, int64_t begin, int64_t end) {
  const at::Tensor values = at::empty({end - begin}, at::kDouble);
  for (int64_t i = begin; i < end; ++i) values.data_ptr<double>()[i - begin] = Element(tensor, i);
  return values;
}

at::ScalarType TypeOf(const TensorInfo& info) {
  return info.dtype == CheckpointTypeName(at::kBFloat16) ? at::kBFloat16 : at::kFloat;
}

// The state as a function, in the types in which this rank keeps it.
Status ImportFromNothing(RankState* rank) {
  ParameterStore& store = rank->parameters();
  return rank->optimizer().ImportState(7, [&](const std::string& name, int64_t begin, int64_t end,
                                              void* out) {
    at::ScalarType type = store.accumulate_type();
    if (name.rfind("param/", 0) == 0) {
      const auto group = static_cast<size_t>(store.Get(name.substr(6))->group);
      type = store.groups()[group].master.scalar_type();
    }
    at::from_blob(out, {end - begin}, at::TensorOptions(type)).copy_(Elements(name, begin, end));
    return OkStatus();
  });
}

// What layers would compute with: this rank's slice of every parameter, replicas of tied ones too.
Status CheckValues(RankState* rank) {
  ParameterStore& store = rank->parameters();
  for (size_t g = 0; g < store.groups().size(); ++g) {
    store.LaunchGather(static_cast<int>(g));
    WEFT_RETURN_IF_ERROR(store.WaitGather(static_cast<int>(g)));
    for (const Parameter* parameter : store.groups()[g].parameters) {
      const ParamSpec& spec = parameter->spec;
      at::Tensor whole = Elements("param/" + spec.source(), 0, spec.NumElements()).view(spec.shape);
      std::vector<at::Tensor> boxes;
      for (const TensorBox& box : parameter->boxes) {
        at::Tensor part = whole;
        for (size_t d = 0; d < spec.shape.size(); ++d)
          part = part.narrow(static_cast<int64_t>(d), box.offsets[d], box.lengths[d]);
        boxes.push_back(part);
      }
      const at::Tensor want = boxes.size() == 1 ? boxes[0] : at::cat(boxes, spec.tp_dim);
      if (!at::equal(parameter->value.to(at::kDouble), want))
        return Internal("the value of " + spec.name + " is wrong");
    }
    store.Release(static_cast<int>(g));
  }
  return OkStatus();
}

StatusOr<checkpoint::ShardInfo> Save(RankState* rank, int number, int world_size, int64_t step,
                                     const std::string& directory) {
  std::vector<SliceData> slices;
  for (const StateSlice& slice : rank->optimizer().ExportState()) {
    slices.push_back(BoxSlice(slice.name, slice.dtype, slice.global_shape, slice.box.offsets,
                              slice.box.lengths, slice.flat_begin, slice.flat_end, slice.data));
  }
  ShardWriterOptions options;
  options.rank = number;
  options.world_size = world_size;
  options.step = step;
  return WriteShard(PosixFileSystem(), directory, options, slices);
}

// Every parameter, and moments of those that are trained.
void ExpectWholeState(const Recipe& recipe, const CheckpointReader& reader) {
  ModelSpec spec = *MakeModelSpec(recipe);
  ASSERT_TRUE(ApplyTrainable({recipe.trainable().begin(), recipe.trainable().end()}, &spec).ok());
  size_t expected = 0;
  for (const ParamSpec& param : spec.Params()) {
    if (!param.tie.empty()) continue;
    EXPECT_TRUE(reader.Has("param/" + param.name)) << param.name;
    EXPECT_EQ(reader.Has("adam.m/" + param.name), param.trainable) << param.name;
    EXPECT_EQ(reader.Has("adam.v/" + param.name), param.trainable) << param.name;
    expected += param.trainable ? 3 : 1;
  }
  EXPECT_EQ(reader.TensorNames().size(), expected);
}

// The first layout starts from nothing, each other one from the checkpoint of the one before it.
void PassOn(Recipe recipe, const std::vector<std::string>& layouts) {
  TempDir dir;
  checkpoint::Manifest manifest;
  for (size_t i = 0; i < layouts.size(); ++i) {
    SCOPED_TRACE(layouts[i]);
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(layouts[i], recipe.mutable_layout()));
    const Layout& layout = recipe.layout();
    const int world = layout.dp() * layout.tp() * layout.pp();
    CheckpointName name;
    name.step = static_cast<int64_t>(i);
    checkpoint::Manifest next;
    next.set_format(kManifestFormat);
    next.set_directory(AttemptDirectoryName(name));
    *next.mutable_state() = StateOf(recipe, name.step);
    for (int r = 0; r < world; ++r) next.add_shards();
    ASSERT_TRUE(PosixFileSystem()->MakeDirs(dir / next.directory()).ok());
    OnAllRanks(recipe, [&](int rank, RankState* state) -> Status {
      if (i == 0) {
        WEFT_RETURN_IF_ERROR(ImportFromNothing(state));
      } else {
        WEFT_ASSIGN_OR_RETURN(const auto reader,
                              CheckpointReader::Open(PosixFileSystem(), dir.path(), manifest));
        WEFT_RETURN_IF_ERROR(state->optimizer().ImportState(
            7, [&](const std::string& tensor, int64_t begin, int64_t end, void* out) {
              return reader->Read(tensor, begin, end, out);
            }));
      }
      WEFT_RETURN_IF_ERROR(CheckValues(state));
      WEFT_ASSIGN_OR_RETURN(*next.mutable_shards(rank),
                            Save(state, rank, world, name.step, dir / next.directory()));
      return OkStatus();
    });
    if (::testing::Test::HasFailure()) return;
    manifest = next;
    const auto reader = CheckpointReader::Open(PosixFileSystem(), dir.path(), manifest);
    ASSERT_TRUE(reader.ok()) << reader.status();
    ExpectWholeState(recipe, **reader);
    for (const std::string& tensor : (*reader)->TensorNames()) {
      const TensorInfo info = *(*reader)->tensor(tensor);
      const at::Tensor read = at::empty({info.num_elements}, TypeOf(info));
      ASSERT_TRUE((*reader)->Read(tensor, 0, info.num_elements, read.data_ptr()).ok());
      EXPECT_TRUE(at::equal(read.to(at::kDouble), Elements(tensor, 0, info.num_elements)))
          << tensor;
    }
  }
}

const std::vector<std::string> kLayouts = {
    "",
    "dp: 3",
    "tp: 2 sequence_parallel: true dp: 2 zero_stage: 2",
    "pp: 2 dp: 2 zero_stage: 3",
    "tp: 4",
    "pp: 2 virtual_stages: 2 schedule: INTERLEAVED_1F1B",
    "dp: 4 shard_ranks: 2 zero_stage: 3",
    "tp: 2 pp: 2 zero_stage: 3 gather: GATHER_MICRO_BATCH",
    "virtual_stages: 2 schedule: INTERLEAVED_1F1B",
    "dp: 2 tp: 2 zero_stage: 3",
};

Recipe MakeRecipe(const std::string& model) {
  Recipe recipe;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "precision: BF16 batch { slots: 4 micro_batches: 1 micro_batch_size: 1 } model { " + model +
          " }",
      &recipe));
  return recipe;
}

// A tied, odd vocabulary.
TEST(RelayoutTest, RobertaKeepsItsState) {
  PassOn(MakeRecipe("roberta { max_length: 6 vocab_size: 1037 width: 32 layers: 3 heads: 4 }"),
         kLayouts);
}

// Fused projections, and a parameter of a join.
TEST(RelayoutTest, ClipKeepsItsState) {
  std::vector<std::string> layouts = kLayouts;
  layouts.insert(layouts.begin() + 3, "tp: 2 encoder: ENCODER_DEAL");
  PassOn(MakeRecipe("clip { embed_dim: 16 image_size: 8 patch_size: 4 vision_width: 32 "
                    "vision_layers: 2 vision_heads: 4 context_length: 6 vocab_size: 101 "
                    "text_width: 32 text_layers: 2 text_heads: 4 }"),
         layouts);
}

// A frozen tower in bf16, grouped kv heads of which there are fewer than ranks.
TEST(RelayoutTest, LlavaWithAFrozenTowerKeepsItsState) {
  std::vector<std::string> layouts = kLayouts;
  layouts.insert(layouts.begin() + 5, "tp: 4 encoder: ENCODER_DEAL sequence_parallel: true");
  Recipe recipe = MakeRecipe(
      "llava { image_size: 8 patch_size: 4 vision_width: 32 vision_layers: 3 "
      "vision_heads: 4 max_length: 9 vocab_size: 101 width: 32 layers: 3 heads: 4 "
      "kv_heads: 2 ffn: 48 }");
  recipe.add_trainable("multi_modal_projector.*");
  recipe.add_trainable("language_model.*");
  PassOn(recipe, layouts);
}

}  // namespace
}  // namespace weft::testing
