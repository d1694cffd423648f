// Undo disks: a run's changes go into a differencing child, and what becomes of them is decided
// afterwards.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "image/image.h"

namespace vhdkit::hypervisor {

// What becomes of the changes at the end of the run.
enum class UndoEnd : uint8_t {
  keep,     // they stay in the child, and the next run goes on with them
  merge,    // into the disk; the child is removed
  discard,  // the child is removed
};
std::optional<UndoEnd> parse_undo_end(std::string_view word);

// The child of "disk.vhdx" is "disk.vhdx.undo.avhdx", beside the file itself where the path is a
// link; a VHD's ends with ".undo.avhd".
std::string undo_path(const std::string& path, image::Format format);
// The name that the child has from before its merge until it is gone: "disk.vhdx.undo.avhdx" is
// "disk.vhdx.undo.merging.avhdx" then. The disk is whole only under the child meanwhile, so that
// has to be merged, whatever anybody wants done with a run's changes.
std::string merging_path(const std::string& child);

// To open a child of an image that is opened with these options. parent: where that is; nothing:
// where the child says.
image::OpenOptions options_for_child(image::OpenOptions options,
                                     std::optional<std::string> parent = std::nullopt);

struct UndoDisk {
  std::string path;                // of the child
  bool is_new = false;             // nothing was written to it yet
  std::vector<std::string> notes;  // what people should know of how it came to be
};

// Whether the image can be used without an undo disk: no merge into it has begun; and, where it is
// a VHD that is opened for writing, no undo disk of an earlier run is left. A VHDX may be written
// then: it is another one afterwards, and refuses that child. Only reads. Errors: busy: of its undo
// disk's changes it has a part, or it is just getting them, or it is such a VHD; as Image::open(),
// also where what has an undo disk's name cannot be opened, and may be one.
Async<void> check_is_whole(async::Loop& loop, const std::string& path,
                           const image::OpenOptions& options);

// Whether the image can have an undo disk, and that can be done with what an earlier run has left
// which is wanted; only reads. Errors: unsupported: a raw file, or another format without children;
// exists: a file with the name of an undo disk that is no child of the image; busy: another run has
// it; as Image::open(): it cannot be opened, and may be a child; invalid_argument: it cannot be
// merged, since the image has other children, which would be lost; as Image::open() and
// image::merge().
Async<void> check_undo(async::Loop& loop, const std::string& path,
                       const image::OpenOptions& options, UndoEnd end);

// Makes the child. Where an earlier run has left one, because it was to be kept or because the
// runner was killed, first that is done with it what is asked for now: it is merged, discarded, or,
// kept, taken for this run. A merge that had begun is finished before. The image itself is written
// only by a merge. Errors: as check_undo(), image::snapshot() and image::merge(). Then no child was
// made, and an earlier one has all changes that it had.
Async<UndoDisk> begin_undo(async::Loop& loop, const std::string& path,
                           const image::OpenOptions& options, UndoEnd end);

// Opens the child for writing, as the disk.
Async<std::unique_ptr<image::Image>> open_undo(async::Loop& loop, const UndoDisk& undo,
                                               const std::string& path,
                                               const image::OpenOptions& options);

// After the child was closed: does what was asked for. Errors: those of the merge or of removing
// it, saying what to do; then it is still there.
Async<void> finish_undo(async::Loop& loop, const std::string& child, UndoEnd end);

}  // namespace vhdkit::hypervisor
