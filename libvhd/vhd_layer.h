// A VHD 1.0 file as a layer: fixed, dynamic or differencing.
#pragma once

#include <memory>

#include "disk/layer.h"

namespace vhdkit::libvhd {

struct OpenOptions {
  // The layer gets a writer; a footer that is damaged or missing is written again from the other
  // one before anything else is changed. REQUIRES: a file that is open for writing.
  bool writable = false;
};

// Reads the footer, the Dynamic Disk Header and the parent locators; the BAT and the sector bitmaps
// only when asked for. The layer keeps at most a few MiB of them.
//
// A differencing layer answers "parent" for what it does not hold: it is no disk without its
// parent. Damage that leaves the content readable (a lost tail, a broken locator) is listed in
// describe() under "warnings".
//
// Errors: corrupt; unsupported (version, disk type, block size below 512 KiB, bitmaps of blktap
// 0.1); io. A
// writable layer is refused where two blocks share their place in the file.
Async<std::unique_ptr<disk::Layer>> open_layer(std::unique_ptr<File> file,
                                               OpenOptions options = {});

}  // namespace vhdkit::libvhd
