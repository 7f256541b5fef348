// Tiny checkpoints for tests: the tensors of a two-tensor model, cut over any number of ranks, with contents that follow
// from (tensor, element, step), so that whoever reads them can check every element.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/manifest.h"
#include "checkpoint/shard_writer.h"
#include "cluster/base/hash.h"

namespace weft {

struct TinyTensor {
  std::string name;
  std::vector<int64_t> shape;
  int64_t elements() const {
    int64_t n = 1;
    for (const int64_t length : shape) n *= length;
    return n;
  }
};

// Parameters "w" (wide x 3) and "b" (5) with their moments.
inline std::vector<TinyTensor> TinyTensors(int64_t wide = 40) {
  std::vector<TinyTensor> tensors;
  for (const char* kind : {"param/", "adam.m/", "adam.v/"}) {
    tensors.push_back({std::string(kind) + "w", {wide, 3}});
    tensors.push_back({std::string(kind) + "b", {5}});
  }
  return tensors;
}

inline float TinyElement(const std::string& tensor, int64_t element, int64_t step) {
  const uint64_t hash =
      HashCombine(Fnv1a64(tensor), static_cast<uint64_t>(element * 1000003 + step));
  return static_cast<float>(hash % 1000000);
}

inline checkpoint::TrainState TinyState(int64_t step) {
  checkpoint::TrainState state;
  state.set_step(step);
  state.set_seed(7);
  state.set_recipe_hash("recipe");
  state.mutable_cursor()->set_manifest_hash("data");
  state.mutable_cursor()->set_next_step(step);
  return state;
}

// Writes rank's part of every tensor: the flat range that an even cut gives it.
inline StatusOr<checkpoint::ShardInfo> WriteTinyShard(
    FileSystem* fs, const std::string& checkpoint_dir, const CheckpointName& name, int rank,
    int world, const std::vector<TinyTensor>& tensors = TinyTensors()) {
  std::vector<std::vector<float>> data;
  std::vector<SliceData> slices;
  for (const TinyTensor& tensor : tensors) {
    const int64_t begin = tensor.elements() * rank / world;
    const int64_t end = tensor.elements() * (rank + 1) / world;
    std::vector<float>& values = data.emplace_back();
    for (int64_t i = begin; i < end; ++i) values.push_back(TinyElement(tensor.name, i, name.step));
    slices.push_back(FlatSlice(tensor.name, "f32", tensor.shape, begin, end, values.data()));
  }
  ShardWriterOptions options;
  options.rank = rank;
  options.world_size = world;
  options.epoch = name.epoch;
  options.generation = name.generation;
  options.step = name.step;
  options.attempt = name.attempt;
  return WriteShard(fs, JoinPath(checkpoint_dir, AttemptDirectoryName(name)), options, slices);
}

// A whole checkpoint without a ledger: directory, shards; the manifest is returned, not written.
inline StatusOr<checkpoint::Manifest> WriteTinyCheckpoint(
    FileSystem* fs, const std::string& checkpoint_dir, const CheckpointName& name, int world,
    const std::vector<TinyTensor>& tensors = TinyTensors()) {
  checkpoint::Manifest manifest;
  manifest.set_format(kManifestFormat);
  manifest.set_directory(AttemptDirectoryName(name));
  manifest.set_epoch(name.epoch);
  manifest.set_generation(name.generation);
  manifest.set_attempt(name.attempt);
  *manifest.mutable_state() = TinyState(name.step);
  WEFT_RETURN_IF_ERROR(fs->MakeDirs(JoinPath(checkpoint_dir, manifest.directory())));
  for (int rank = 0; rank < world; ++rank) {
    WEFT_ASSIGN_OR_RETURN(*manifest.add_shards(),
                          WriteTinyShard(fs, checkpoint_dir, name, rank, world, tensors));
  }
  return manifest;
}

// Every element of every tensor, read in `readers` even parts, is what was written.
inline Status CheckTinyCheckpoint(FileSystem* fs, const std::string& checkpoint_dir,
                                  const checkpoint::Manifest& manifest, int readers = 1,
                                  const std::vector<TinyTensor>& tensors = TinyTensors()) {
  WEFT_ASSIGN_OR_RETURN(auto reader, CheckpointReader::Open(fs, checkpoint_dir, manifest));
  for (const TinyTensor& tensor : tensors) {
    for (int part = 0; part < readers; ++part) {
      const int64_t begin = tensor.elements() * part / readers;
      const int64_t end = tensor.elements() * (part + 1) / readers;
      std::vector<float> values(static_cast<size_t>(end - begin));
      WEFT_RETURN_IF_ERROR(reader->Read(tensor.name, begin, end, values.data()));
      for (int64_t i = begin; i < end; ++i) {
        if (values[static_cast<size_t>(i - begin)] ==
            TinyElement(tensor.name, i, manifest.state().step()))
          continue;
        return Internal(tensor.name + " element " + std::to_string(i) + " is wrong");
      }
    }
  }
  return OkStatus();
}

}  // namespace weft
