#include "dataloader/order_proof.h"

#include <algorithm>

namespace weft {
namespace {

std::string Name(const OrderProof::Set& set, uint64_t epoch) {
  return "set " + set.name + ", epoch " + std::to_string(epoch) + ": ";
}

bool IsOvertaken(const OrderProof::Epochs& epochs) {
  return !epochs.whole.empty() && epochs.whole.size() <= *epochs.whole.rbegin();
}

}  // namespace

Status OrderProof::Add(const SampleRef& ref) {
  const Set& set = sets_[static_cast<size_t>(ref.set)];
  Epochs& epochs = epochs_[static_cast<size_t>(ref.set)];
  const auto twice = [&] {
    return Internal(Name(set, ref.epoch) + "sample " + std::to_string(ref.id) + " comes twice");
  };
  if (epochs.whole.contains(ref.epoch)) return twice();
  const auto [at, is_new] = epochs.open.try_emplace(ref.epoch);
  OpenEpoch& epoch = at->second;
  if (is_new) epoch.has.resize(set.samples);
  if (epoch.has[ref.id]) return twice();
  epoch.has[ref.id] = true;
  if (++epoch.seen < set.samples) return OkStatus();
  epochs.open.erase(at);
  epochs.whole.insert(ref.epoch);
  return OkStatus();
}

bool OrderProof::Overtaken() const {
  return std::any_of(epochs_.begin(), epochs_.end(), IsOvertaken);
}

Status OrderProof::CheckNoneMissing() const {
  for (size_t i = 0; i < sets_.size(); ++i) {
    if (!IsOvertaken(epochs_[i])) continue;
    const Epochs& epochs = epochs_[i];
    uint64_t number = 0;
    while (epochs.whole.contains(number)) ++number;
    const auto open = epochs.open.find(number);
    const uint64_t seen = open == epochs.open.end() ? 0 : open->second.seen;
    return Internal(Name(sets_[i], number) + std::to_string(sets_[i].samples - seen) + " of " +
                    std::to_string(sets_[i].samples) + " samples have not come, but epoch " +
                    std::to_string(*epochs.whole.rbegin()) + " is whole");
  }
  return OkStatus();
}

uint64_t OrderProof::LeastWhole() const {
  uint64_t least = UINT64_MAX;
  for (const Epochs& epochs : epochs_) least = std::min<uint64_t>(least, epochs.whole.size());
  return least;
}

}  // namespace weft
