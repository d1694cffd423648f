// A disk of the guest's while it is open: its image, and what stands in front of it so that the
// image may be exchanged while the guest runs.
#pragma once

#include "disk/exchangeable_disk.h"
#include "hypervisor/runner/undo_disk.h"
#include "image/resize.h"
#include "vsp-storage/storvsp/throttle.h"
#include "vsp-storage/storvsp/worker.h"

namespace vhdkit::hypervisor {

struct DiskPlan {
  std::string path;
  image::OpenOptions open;  // writable unless it is to be read-only
  storvsp::Limits limits;
};

// The functions below are for the owner's thread; whoever calls them looks at the members when none
// of them runs.
struct OpenDisk {
  storvsp::Worker* owner;
  std::string path;  // as the user named it
  std::optional<UndoDisk> undo;
  image::OpenOptions open;                        // of the image that is there now
  std::unique_ptr<image::Image> image;            // null: it could not be opened again
  std::shared_ptr<disk::ExchangeableDisk> front;  // what the guest's requests come to
  std::shared_ptr<storvsp::Throttle> limit;       // null: none

  bool is_writable() const { return open.writable; }
};

// Opens it, with an undo disk where one is wanted and the disk is writable. Errors: as begin_undo()
// and Image::open(), naming the file; an undo disk that was made for it is gone then.
Async<void> open_disk(const DiskPlan& plan, std::optional<UndoEnd> undo_end, OpenDisk& disk);

// Requests wait from now on, and none runs any more. Then one of the others, and let_go().
Async<void> hold(OpenDisk& disk);
// Requests go on, with the image that is there now; without one, all of them fail.
void let_go(OpenDisk& disk);

// A new child takes the image's place, as image::snapshot() makes it; the image is closed, and
// stays as it is. Errors: as image::snapshot(); then the old image is open again. REQUIRES: held.
Async<void> move_to_child(OpenDisk& disk);
// Undoes that: the child is removed, and its parent open again. REQUIRES: held since.
Async<void> move_back(OpenDisk& disk, const std::string& parent, const image::OpenOptions& open);

// The image is closed, gets another size by image::resize(), and is open again. Errors: as
// image::resize(); then it is open again with the size that it has. REQUIRES: held;
// image::plan_resize() found nothing.
Async<void> resize_disk(OpenDisk& disk, image::ResizeOptions options);

// Closes the image, and ends its undo disk as wanted. Errors: of either, naming the file. REQUIRES:
// no request runs, nor comes.
Async<void> close_disk(OpenDisk& disk, std::optional<UndoEnd> undo_end);

}  // namespace vhdkit::hypervisor
