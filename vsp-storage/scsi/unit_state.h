// What every kind of unit keeps.
#pragma once

#include <memory>
#include <mutex>
#include <set>

#include "vsp-storage/scsi/unit_attentions.h"

namespace vhdkit::scsi {

class Luns;

// Who forbids the medium's removal, SPC-4 6.13 / SBC-3 5.12. Thread-safe.
class RemovalLocks {
 public:
  // An initiator beyond this number gets what it asks for, but no lock is kept for it.
  static constexpr size_t max_initiators = UnitAttentions::max_initiators;

  void set(uint64_t initiator, bool is_prevented) {
    const std::scoped_lock lock(mutex_);
    if (!is_prevented) {
      initiators_.erase(initiator);
    } else if (initiators_.size() < max_initiators) {
      initiators_.insert(initiator);
    }
  }
  bool is_prevented() const {
    const std::scoped_lock lock(mutex_);
    return !initiators_.empty();
  }
  void reset() {
    const std::scoped_lock lock(mutex_);
    initiators_.clear();
  }

 private:
  mutable std::mutex mutex_;
  std::set<uint64_t> initiators_;
};

// The target's list that a unit stands in, while it does. Thread-safe.
class LunsLink {
 public:
  void set(std::weak_ptr<Luns> luns) {
    const std::scoped_lock lock(mutex_);
    luns_ = std::move(luns);
  }
  std::shared_ptr<Luns> get() const {
    const std::scoped_lock lock(mutex_);
    return luns_.lock();
  }

 private:
  mutable std::mutex mutex_;
  std::weak_ptr<Luns> luns_;
};

struct UnitState {
  UnitAttentions attentions;
  RemovalLocks removal_locks;
  LunsLink luns;
};

}  // namespace vhdkit::scsi
