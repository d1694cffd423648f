// The parent that an existing image names, changed in place.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/file.h"
#include "image/create.h"

namespace vhdkit::image {

// Locked against everybody else, and as sound as a change needs it: a log is replayed on disk,
// damaged copies of structures are repaired. Errors: busy; as the formats' repairs.
Async<std::unique_ptr<async::SystemFile>> open_for_edit(async::Loop& loop, const std::string& path,
                                                        Format format);
// The second part of that, for a file that is open for writing and locked already.
Async<void> make_fit_for_edit(File& file, Format format);

// What a VHDX says of a merge that is not finished; a VHD cannot say it.
struct UnfinishedMerge {
  std::optional<Guid> other_identity = std::nullopt;  // one that the parent may have as well
  std::vector<Guid> merged = {};                      // as in disk::ParentReference
};

// Makes the differencing image in a file that is fit for an edit name this parent, and no other.
// What it said of a merge is gone. After a crash it names the old one or the new one. Errors:
// invalid_argument (paths that the format cannot hold); no_space; io.
Async<void> write_parent(File& file, const ParentForCreation& parent, UnfinishedMerge merge);

}  // namespace vhdkit::image
