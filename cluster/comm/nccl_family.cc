#include "cluster/comm/nccl_family.h"

#include <algorithm>

namespace weft::nccl {

void Family::Add(const Communications& members) {
  MutexLock lock(mutex_);
  members_.insert(members_.end(), members.begin(), members.end());
}

void Family::Abort(const Status& reason) {
  Communications all;
  {
    MutexLock lock(mutex_);
    if (failure_.ok()) failure_ = reason;
    all = members_;
  }
  MutexLock aborting(aborting_);
  Communication::AbortTogether(all);
}

void Family::Remove(const Communications& members) {
  {
    MutexLock lock(mutex_);
    std::erase_if(members_, [&](const auto& member) {
      return std::find(members.begin(), members.end(), member) != members.end();
    });
  }
  MutexLock aborting(aborting_);
  Communication::AbortTogether(members);
}

Status Family::failure() const {
  MutexLock lock(mutex_);
  return failure_;
}

}  // namespace weft::nccl
