// The data sets of a run behind one number: sample id = the set's first id + the id in the set, sets in the recipe's order.
//
// Errors: NotFound, Corruption, InvalidArgument; messages name the set's shard or the recipe's field. Thread rule: immutable
// once open and safe from any thread; a cook belongs to one.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/loader_options.h"
#include "dataloader/order.h"
#include "dataloader/sample_source.h"

namespace weft {

class SampleMix {
 public:
  // data.sets, or else the one set of data.train_shards.
  static StatusOr<std::unique_ptr<SampleMix>> Open(const LoaderOptions& options);

  const std::vector<FieldSpec>& fields() const { return sources_[0]->fields(); }
  int64_t num_samples() const { return first_id_.back(); }
  // Of all sets: names and contents.
  const std::string& manifest_hash() const { return manifest_hash_; }
  int64_t Id(const SampleRef& ref) const {
    return first_id_[static_cast<size_t>(ref.set)] + static_cast<int64_t>(ref.id);
  }
  std::string Describe(const SampleRef& ref) const;
  // See SampleSource.
  StatusOr<int64_t> Length(const SampleRef& ref) const {
    return source(ref.set).Length(static_cast<int64_t>(ref.id));
  }
  StatusOr<bool> HasPicture(const SampleRef& ref) const {
    return source(ref.set).HasPicture(static_cast<int64_t>(ref.id));
  }
  StatusOr<int64_t> AttentionPairs(const SampleRef& ref) const {
    return source(ref.set).AttentionPairs(static_cast<int64_t>(ref.id));
  }
  // Any sample of any set.
  std::unique_ptr<SampleCook> NewCook() const;
  // For SampleOrder::Create.
  std::vector<OrderedSet> OrderedSets() const;

  int num_sets() const { return static_cast<int>(sources_.size()); }
  const std::string& set_name(int set) const { return names_[static_cast<size_t>(set)]; }
  const SampleSource& source(int set) const { return *sources_[static_cast<size_t>(set)]; }

 private:
  SampleMix() = default;

  std::vector<std::string> names_;
  std::vector<std::unique_ptr<SampleSource>> sources_;
  std::vector<int64_t> first_id_{0};
  std::string manifest_hash_;
};

// The options of one of data.sets, as if it were alone.
LoaderOptions OptionsOfSet(const LoaderOptions& options, int set);

// The order that the recipe asks for, over these sets.
StatusOr<SampleOrder> MakeOrder(const DataRecipe& data, const BatchRecipe& batch, uint64_t seed,
                                std::vector<OrderedSet> sets);

}  // namespace weft
