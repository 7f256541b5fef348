#include "checkpoint/coverage.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/shard_format.h"

namespace weft {
namespace {

constexpr std::string_view kParam = "param/";
constexpr std::string_view kAdamM = "adam.m/";
constexpr std::string_view kAdamV = "adam.v/";

struct Part {
  const checkpoint::Slice* slice;
  const checkpoint::ShardInfo* shard;
};
using Box = std::pair<std::vector<int64_t>, std::vector<int64_t>>;  // offsets, lengths
using TensorParts = std::map<std::string, std::vector<Part>>;

std::string Join(const google::protobuf::RepeatedField<int64_t>& numbers) {
  std::string text;
  for (const int64_t n : numbers) text += (text.empty() ? "" : ", ") + std::to_string(n);
  return "[" + text + "]";
}

std::string RangeText(int64_t begin, int64_t end) {
  return "elements [" + std::to_string(begin) + ", " + std::to_string(end) + ")";
}

bool SameShape(const checkpoint::Slice& a, const checkpoint::Slice& b) {
  return std::equal(a.global_shape().begin(), a.global_shape().end(), b.global_shape().begin(),
                    b.global_shape().end());
}

TensorParts PartsByTensor(const checkpoint::Manifest& manifest) {
  TensorParts tensors;
  for (const checkpoint::ShardInfo& shard : manifest.shards()) {
    for (const checkpoint::Slice& slice : shard.slices()) {
      tensors[slice.tensor()].push_back({&slice, &shard});
    }
  }
  return tensors;
}

Status CheckSameTensor(const std::vector<Part>& parts) {
  const checkpoint::Slice& first = *parts.front().slice;
  for (const Part& part : parts) {
    if (part.slice->dtype() == first.dtype() && SameShape(*part.slice, first)) continue;
    return FailedPrecondition("tensor '" + first.tensor() + "' is " + first.dtype() + " " +
                              Join(first.global_shape()) + " in " + parts.front().shard->file() +
                              " but " + part.slice->dtype() + " " +
                              Join(part.slice->global_shape()) + " in " + part.shard->file());
  }
  return OkStatus();
}

// The flat ranges inside one box, without hole or overlap.
Status CheckBox(std::vector<Part> parts) {
  std::stable_sort(parts.begin(), parts.end(), [](const Part& a, const Part& b) {
    return a.slice->flat_begin() < b.slice->flat_begin();
  });
  const checkpoint::Slice& first = *parts.front().slice;
  const std::string tensor = "tensor '" + first.tensor() + "' " + Join(first.global_shape()) +
                             ", box at " + Join(first.offsets()) + " of " + Join(first.lengths());
  int64_t covered = 0;
  const Part* last = nullptr;
  for (const Part& part : parts) {
    if (part.slice->flat_begin() == part.slice->flat_end()) continue;  // holds nothing
    if (part.slice->flat_begin() > covered) {
      return FailedPrecondition(tensor + ": " + RangeText(covered, part.slice->flat_begin()) +
                                " are in no shard");
    }
    if (part.slice->flat_begin() < covered) {
      return FailedPrecondition(
          tensor + ": " +
          RangeText(part.slice->flat_begin(), std::min(covered, part.slice->flat_end())) +
          " are in " + last->shard->file() + " and again in " + part.shard->file());
    }
    covered = part.slice->flat_end();
    last = &part;
  }
  if (covered == BoxElements(first)) return OkStatus();
  return FailedPrecondition(tensor + ": " + RangeText(covered, BoxElements(first)) +
                            " are in no shard");
}

bool Overlap(const Box& a, const Box& b) {
  for (size_t d = 0; d < a.first.size(); ++d) {
    if (a.first[d] + a.second[d] <= b.first[d] || b.first[d] + b.second[d] <= a.first[d])
      return false;
  }
  return true;
}

// Boxes are disjoint and together as large as the tensor.
Status CheckBoxes(const std::map<Box, std::vector<Part>>& boxes) {
  const Part& any = boxes.begin()->second.front();
  int64_t volume = 0;
  for (auto a = boxes.begin(); a != boxes.end(); ++a) {
    volume += BoxElements(*a->second.front().slice);
    for (auto b = std::next(a); b != boxes.end(); ++b) {
      if (!Overlap(a->first, b->first)) continue;
      const Part& pa = a->second.front();
      const Part& pb = b->second.front();
      return FailedPrecondition("tensor '" + any.slice->tensor() + "': the boxes at " +
                                Join(pa.slice->offsets()) + " (" + pa.shard->file() + ") and at " +
                                Join(pb.slice->offsets()) + " (" + pb.shard->file() + ") overlap");
    }
  }
  if (volume == NumElements(*any.slice)) return OkStatus();
  return FailedPrecondition("tensor '" + any.slice->tensor() + "' " +
                            Join(any.slice->global_shape()) + ": its boxes hold " +
                            std::to_string(volume) + " of " +
                            std::to_string(NumElements(*any.slice)) + " elements");
}

Status CheckTensor(const std::vector<Part>& parts) {
  WEFT_RETURN_IF_ERROR(CheckSameTensor(parts));
  std::map<Box, std::vector<Part>> boxes;
  for (const Part& part : parts) {
    // A rank may have nothing of a small tensor.
    if (BoxElements(*part.slice) == 0 && NumElements(*part.slice) > 0) continue;
    const auto& slice = *part.slice;
    boxes[{{slice.offsets().begin(), slice.offsets().end()},
           {slice.lengths().begin(), slice.lengths().end()}}]
        .push_back(part);
  }
  if (boxes.empty()) {
    return FailedPrecondition("tensor '" + parts.front().slice->tensor() +
                              "': no shard holds any of it");
  }
  for (const auto& [box, box_parts] : boxes) WEFT_RETURN_IF_ERROR(CheckBox(box_parts));
  return CheckBoxes(boxes);
}

Status CheckShard(const checkpoint::Manifest& manifest, const checkpoint::ShardInfo& shard) {
  const std::string who = "shard of rank " + std::to_string(shard.rank()) + ": ";
  const int world = manifest.shards_size();
  if (shard.world_size() != world) {
    return FailedPrecondition(who + "it was written by a world of " +
                              std::to_string(shard.world_size()) + " ranks, " +
                              std::to_string(world) + " shards are in");
  }
  if (shard.file() != ShardFileName(shard.rank(), world)) {
    return FailedPrecondition(who + "its file is called '" + shard.file() + "'");
  }
  const CheckpointName name = {shard.step(), shard.epoch(), shard.generation(), shard.attempt()};
  if (!(name == NameOf(manifest))) {
    return FailedPrecondition(who + "it belongs to " + AttemptDirectoryName(name) + ", not to " +
                              AttemptDirectoryName(NameOf(manifest)));
  }
  for (const checkpoint::Slice& slice : shard.slices()) {
    WEFT_RETURN_IF_ERROR(CheckSlice(slice).WithContext(shard.file()));
    if (slice.payload_offset() > shard.payload_bytes() ||
        SliceBytes(slice) > shard.payload_bytes() - slice.payload_offset()) {
      return FailedPrecondition(who + "tensor '" + slice.tensor() + "' leaves the payload");
    }
  }
  if (static_cast<uint64_t>(shard.block_crcs_size()) != NumBlocks(shard.payload_bytes()) ||
      ShardRootCrc(shard) != shard.root_crc()) {
    return FailedPrecondition(who + "its root CRC does not match its blocks and slices");
  }
  return OkStatus();
}

}  // namespace

Status CheckShards(const checkpoint::Manifest& manifest) {
  if (manifest.shards_size() == 0) return FailedPrecondition("there is no shard");
  if (manifest.directory() != AttemptDirectoryName(NameOf(manifest))) {
    return FailedPrecondition("the manifest names the directory '" + manifest.directory() +
                              "', not " + AttemptDirectoryName(NameOf(manifest)));
  }
  std::set<int> ranks;
  for (const checkpoint::ShardInfo& shard : manifest.shards()) {
    WEFT_RETURN_IF_ERROR(CheckShard(manifest, shard));
    if (shard.rank() < 0 || shard.rank() >= manifest.shards_size() ||
        !ranks.insert(shard.rank()).second) {
      return FailedPrecondition("rank " + std::to_string(shard.rank()) +
                                " is out of range or there twice");
    }
  }
  return OkStatus();
}

Status CheckTiling(const checkpoint::Manifest& manifest) {
  for (const auto& [name, parts] : PartsByTensor(manifest))
    WEFT_RETURN_IF_ERROR(CheckTensor(parts));
  return OkStatus();
}

Status CheckCompleteness(const checkpoint::Manifest& manifest) {
  const checkpoint::TrainState& state = manifest.state();
  if (state.step() < 0) return FailedPrecondition("train state: step is negative");
  if (!state.has_seed()) return FailedPrecondition("train state: the seed is missing");
  if (state.recipe_hash().empty())
    return FailedPrecondition("train state: the recipe hash is missing");
  if (!state.has_cursor()) return FailedPrecondition("train state: the data cursor is missing");
  const TensorParts tensors = PartsByTensor(manifest);
  const auto any_with = [&](std::string_view prefix) {
    const auto it = tensors.lower_bound(std::string(prefix));
    return it != tensors.end() && it->first.substr(0, prefix.size()) == prefix;
  };
  if (!any_with(kAdamM) && !any_with(kAdamV)) return OkStatus();
  const std::set<std::string> frozen(state.frozen().begin(), state.frozen().end());
  const auto check = [&](std::string_view from, std::string_view to) -> Status {
    for (auto it = tensors.lower_bound(std::string(from));
         it != tensors.end() && it->first.substr(0, from.size()) == from; ++it) {
      const std::string name = it->first.substr(from.size());
      if (from == kParam && frozen.count(name) > 0) continue;
      const std::string wanted = std::string(to) + name;
      const auto found = tensors.find(wanted);
      if (found == tensors.end()) {
        return FailedPrecondition("tensor '" + wanted + "' is missing, though '" + it->first +
                                  "' is there");
      }
      const checkpoint::Slice& a = *it->second.front().slice;
      const checkpoint::Slice& b = *found->second.front().slice;
      if (!SameShape(a, b)) {
        return FailedPrecondition("tensor '" + wanted + "' is " + Join(b.global_shape()) + ", '" +
                                  it->first + "' is " + Join(a.global_shape()));
      }
    }
    return OkStatus();
  };
  WEFT_RETURN_IF_ERROR(check(kParam, kAdamM));
  WEFT_RETURN_IF_ERROR(check(kAdamM, kAdamV));
  return check(kAdamV, kParam);
}

Status CheckCoverage(const checkpoint::Manifest& manifest) {
  WEFT_RETURN_IF_ERROR(CheckShards(manifest));
  WEFT_RETURN_IF_ERROR(CheckTiling(manifest));
  return CheckCompleteness(manifest);
}

}  // namespace weft
