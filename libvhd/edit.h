// Single values of an existing file changed in place.
#pragma once

#include "async/file.h"
#include "libvhd/create.h"

namespace vhdkit::libvhd {

// Both need a file that is open for writing, with both footers whole (repair_footers()). After a
// crash at any moment the image has the old values or the new ones. The changes are flushed. Where
// the copy of the footer at offset 0 differs, it is made equal first, since a crash can bring it to
// bear.

// Gives the image another identity: children made before do not find it any more. Errors: corrupt,
// unsupported, io.
Async<void> set_unique_id(File& file, const Guid& unique_id);

// Names another parent. All locators are replaced by the link's two paths, W2ru and W2ku. The new
// header and the locators' data are put behind the content first, since a header has two sectors,
// which a crash could tear, and a footer has one; then they come to the places of the old ones, and
// the file has its old length again. The file has a whole footer at its end all the time.
//
// Where a path is too long for the old locators' room, the data stays behind the content, and what
// lies before it is used no more: a leak, once that is some KiB. Where the file cannot grow, it has
// its old end again; an error later, when all that is new has its place, leaves the new values.
// REQUIRES: a differencing image. Errors: corrupt; invalid_argument (no path); io; no_space.
Async<void> change_parent(File& file, const ParentLink& parent);

}  // namespace vhdkit::libvhd
