// A VHD's disk made larger or smaller.
#pragma once

#include <memory>

#include "async/file.h"
#include "disk/bulk_writer.h"
#include "disk/layer.h"

namespace vhdkit::libvhd {

// Of a dynamic or differencing image, in place. What the disk gets reads as zeroes. Its geometry is
// the one that the specification computes; where the creator is one whose guests see the geometry
// instead of the size, the creator becomes ours.
//
// VHD has no log; a sector that is old or new does what a log would do:
//
//   grow     the copy of the footer made whole; where the file gets longer, the same footer at its
//            new end, flush. BAT entries behind the disk's made unused; where something lies there,
//            all of the BAT behind the content instead. What the last block has behind the
//            disk's end made zero. Flush. The header, whose first sector says place and length of
//            the BAT, flush. The footer with the new size, flush, its copy, flush.
//   shrink   the footer with the new size, flush, its copy, flush. The entries from the new
//            end to the old one made unused, flush, the header, flush. Their blocks given back and
//            the file cut.
//
// So after a crash at any moment the disk has the old or the new size and its content, as the
// footer at the tail says, and where it is damaged, its copy. Space may be lost, which `check`
// finds.
//
// file: open for writing, with both footers whole (repair_footers()). REQUIRES: no fixed disk; the
// image's audit() finds nothing; a differencing image's parent does not reach behind the old end,
// since VHD has no blocks of zeroes that would hide it. Errors: invalid_argument (the size);
// unsupported (blktap's map behind the BAT, a header that does not begin with a sector, old QEMU's
// last block that cannot grow); corrupt; io; no_space.
Async<void> resize(File& file, uint64_t size_bytes);

// What resize() of this image, or copy_fixed(), would refuse; for one that is open for reading too.
// Errors: theirs, but those of writing.
Async<void> check_resize(File& file, uint64_t size_bytes);

// A fixed disk has one footer at the end of the file, which cannot move without a moment in which
// there is none. So it is made anew: the content, as much of it as stays, for the writer.
struct FixedCopy {
  std::unique_ptr<disk::Layer> content;
  std::unique_ptr<disk::BulkWriter> writer;
};
// target: empty, outlives the copy. Identity and all else are the old image's. Errors:
// invalid_argument (the size); as open_layer().
Async<FixedCopy> copy_fixed(std::unique_ptr<File> file, File& target, uint64_t size_bytes);

}  // namespace vhdkit::libvhd
