// A worker's view of a disk that belongs to another worker's loop: an image, which knows only one.
#pragma once

#include "vsp-storage/storvsp/controller.h"

namespace vhdkit::storvsp {

// Views of a disk for all workers: the disk itself for its owner, for the others one that hands
// every request over and waits for it; the payload still goes straight between the guest's memory
// and the file. The disk's size is what it was then: for another one, make others.
//
// owner: the number of the worker whose loop the disk is bound to; it, and the others, outlive the
// views. The disk is let go of on its owner's thread.
std::vector<Controller::DiskView> views_of(Controller::DiskView disk, size_t owner,
                                           std::span<Worker* const> workers);

}  // namespace vhdkit::storvsp
