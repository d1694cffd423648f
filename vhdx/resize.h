// A VHDX's disk made larger or smaller, in place.
#pragma once

#include <memory>

#include "async/file.h"

namespace vhdkit::vhdx {

struct ResizeOptions {
  uint64_t size_bytes = 0;     // of the disk from now on: multiple of the logical sector, to 64 TiB
  uint64_t parent_bytes = 0;   // a differencing image's parent, the size of its disk
  bool keep_identity = false;  // whatever is cut off, no child sees it
};

// What the disk gets reads as zeroes, whatever lay there before and whatever a parent has there:
// blocks that would show a parent become zero blocks. What a fixed disk gets has its place in the
// file; blocks that had none still have none, and keep room for one.
//
// The order of the writes:
//
//   grow     BAT entries behind the disk's are made zero, which nobody looks at yet; where their
//            region is too short, a longer one at the end of the file gets the BAT. What the last
//            block has behind the disk's end is made zero. Flush.
//            Then one log entry: VirtualDiskSize and, for a BAT that has moved, both region tables.
//   shrink   one log entry with VirtualDiskSize. Then blocks behind the end are given back, the
//            last one is made zero behind it, BAT entries behind it are made zero. Flush. Then the
//            file is cut to its content.
//
// So after a crash at any moment the disk has the old or the new size and its content; space may be
// lost, which `check` finds. Growing keeps the DataWriteGuid: no child sees it. Shrinking changes
// it, unless keep_identity. Where a size is refused, nothing was written.
//
// Gaps that given-up blocks leave in the file are no less free than after a trim: only compacting
// takes them out.
//
// file: open for writing; its log is replayed and damaged copies are repaired first. REQUIRES: the
// image's audit() finds nothing. Errors: invalid_argument (the size); unsupported (a log shorter
// than 1 MiB; old QEMU put something else where the last block would grow); as open_layer() for
// writing; io; no_space.
Async<void> resize(std::unique_ptr<File> file, ResizeOptions options);

}  // namespace vhdkit::vhdx
