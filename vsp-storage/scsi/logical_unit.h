// One device behind a LUN, as a transport sees it.
#pragma once

#include "disk/disk.h"
#include "vsp-storage/scsi/gate.h"
#include "vsp-storage/scsi/unit_state.h"

namespace vhdkit::scsi {

// Thread-safe: many commands run at once, from one thread or from several. Disks are not, so each
// thread brings its own view of the unit's disk with every command, and all views show the same
// disk. What is told here about one initiator holds for the number in Command::initiator.
class LogicalUnit {
 public:
  LogicalUnit(const LogicalUnit&) = delete;
  LogicalUnit& operator=(const LogicalUnit&) = delete;
  virtual ~LogicalUnit() = default;

  // Does one command. The order of commands that run at once is not defined (SAM-5 8.6.2, simple
  // tasks); none of them is aborted.
  //
  // disk: the caller's view. A unit without a medium does not look at it.
  // Unit, disk and command outlive the task, which is awaited once and on the disk's thread. Unit
  // attentions, reservations and the CDB are looked at in this call, before the task starts.
  // Never fails otherwise than by its outcome. What a guest can ask for is bounded in memory; a
  // VERIFY may take as long as reading the whole disk, in pieces that Command::pace admits.
  virtual async::Task<Outcome> execute(disk::Disk& disk, const Command& command) = 0;

  // LOGICAL UNIT RESET, SAM-5 7.7: every initiator gets a unit attention; locks of the medium and
  // what RESERVE took are given up, mode pages are again what they were at first. Persistent
  // reservations stay. Commands that run end as if nothing had happened.
  virtual void reset() {
    state_.removal_locks.reset();
    state_.attentions.establish(Attention::reset);
  }

  // As after its power was off, SAM-5 6.5: nothing is left of what its initiators have said, and
  // each of them is told so. REQUIRES: no command runs.
  virtual void power_on() {
    state_.removal_locks.reset();
    state_.attentions.power_on();
  }

  // The disk has another size now: every initiator gets a unit attention, and a guest's kernel asks
  // for the capacity again. Called when all views of the disk have the new size.
  void capacity_changed() { state_.attentions.establish(Attention::capacity_changed); }

  UnitAttentions& attentions() { return state_.attentions; }
  // For Luns.
  void enter(std::weak_ptr<Luns> luns) { state_.luns.set(std::move(luns)); }

 protected:
  explicit LogicalUnit(UnitState& state) : state_(state) {}

 private:
  UnitState& state_;  // of the derived class
};

}  // namespace vhdkit::scsi
