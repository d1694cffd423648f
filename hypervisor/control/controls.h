// What can be asked of a running guest from outside.
#pragma once

#include <optional>
#include <string>
#include <variant>

#include "support/result.h"
#include "tools/json.h"

namespace vhdkit::hypervisor {

using tools::Json;

// A disk of the guest's: its number, as status has it, or the path of its file.
using DiskName = std::variant<uint64_t, std::string>;

// One call at a time, on a thread that is none of the guest's; each returns when it is done, and is
// bounded in time. Errors of those that the guest itself takes part in (pause, resume, shut_down,
// reset, a snapshot that freezes): busy, while it is switched on, off or restarted. Disks, media,
// status and counters are there meanwhile as well, also when it has gone off for good a moment ago.
class Controls {
 public:
  virtual ~Controls() = default;

  // State ("running", "paused", "starting": it is switched on or restarted), time since power-on,
  // processors, memory, console, disks, and what the guest says of itself, as "services".
  virtual Json status() = 0;
  // What was counted of exits, channels and disks.
  virtual Json counters() = 0;

  // Stops the processors, each between two of the guest's instructions. What the guest has asked of
  // its disks is done meanwhile. Its clocks (time stamp counters, reference time) stop too, so that
  // to the guest no time passes: nothing times out.
  // Timers that ran out meanwhile fire at once when it goes on. Once more: nothing. Errors: busy,
  // also: a processor cannot stop, since what it says on its console is not read.
  virtual Result<void> pause() = 0;
  // A guest that takes the host's time gets it. Errors: io: KVM does not go on.
  virtual Result<void> resume() = 0;
  // The guest is asked to power off, or to restart, as from its own desktop; it takes its time.
  // Errors: not_found: it does not use that service; busy, also: it is paused; io: it refuses, or
  // does not answer.
  virtual Result<void> shut_down(bool restarts) = 0;
  // As a plug does: what the guest has not flushed is lost.
  virtual Result<void> power_off() = 0;
  // A restart, as by a button, also of a paused guest and one that is to stay off after restarts of
  // its own. Disks and console stay.
  virtual Result<void> reset() = 0;

  // words: as --disk takes them, "FILE[,OPTION...]". The guest is told that there is a disk more.
  // Returns its number, as "disk". Errors: invalid_argument (the words); those of the image.
  virtual Result<Json> add_disk(const std::string& words) = 0;
  // Requests that run are finished, and the guest is told that the disk has gone. Errors:
  // not_found; those of closing the image.
  virtual Result<void> remove_disk(const DiskName& name) = 0;
  // A differencing child takes the place of the disk's image, or, without a name, those of all
  // writable disks at one moment, while the guest runs. The images that were there stay as they
  // are: as after a crash, to who looks into them. freezes: the guest's file systems are frozen
  // meanwhile, and so consistent in the images; its daemon for volume snapshots does it. Returns
  // the children, as "snapshots". Errors: not_found, also: the guest does not know the service;
  // read_only; unsupported: a disk that cannot have a child, or has an undo disk; those of making
  // the children; busy: a paused guest cannot freeze. Then nothing has changed. io, also: the guest
  // was thawed too soon, with the children there; or it has no such daemon.
  virtual Result<Json> snapshot(const std::optional<DiskName>& name, bool freezes) = 0;

  // The disk, or the undo disk in its place, gets another size while the guest runs, which is told.
  // size: as vhd resize takes it, "20G", "+1G", "-512M". shrinks: what lies behind a smaller end
  // may be lost. Returns "disk", "old-virtual-size" and "virtual-size", in bytes. Errors:
  // not_found; read_only; invalid_argument: no such size, a smaller one without shrinks, a disk
  // with children; unsupported: a disk that has no other size; those of changing the image. Then
  // the disk is as it was.
  virtual Result<Json> resize_disk(const DiskName& name, const std::string& size, bool shrinks) = 0;

  // Puts an ISO image into the DVD drive, which the machine gets with its first one; what was in it
  // is taken out, whether the guest has locked it or not. Errors: corrupt: it is none; those of the
  // image.
  virtual Result<void> insert_media(const std::string& path) = 0;
  // Errors: not_found: there is no medium.
  virtual Result<void> eject_media() = 0;
};

}  // namespace vhdkit::hypervisor
