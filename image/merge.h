// A differencing VHD's or VHDX's content put into its parent, or into one further down its chain.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "image/image.h"
#include "image/merge_content.h"
#include "image/progress.h"
#include "image/resize.h"

namespace vhdkit::image {

struct MergeOptions {
  std::optional<std::string> into;  // an image of the chain; else the parent
  bool dry_run = false;             // only says what would be done; nothing is changed
  bool keep_files = false;          // the merged images stay, and stay their children's parents
};

struct MergeReport {
  std::string into;                 // the image that has the content now
  std::vector<std::string> merged;  // the images above it, child first; removed unless kept
  std::vector<std::string> moved;   // the child's own children, which have `into` as parent now
  MergeAmount amount;
  ResizeReport size;  // of the disk of `into`: it gets the child's
};

// Writes what the images above `into` hold into it, flushes it, and gives it to the child's own
// children as their parent, and to the child itself; then removes the images above it, the one next
// to it first and the child last. The child shows the same disk at every moment until then, since
// whatever is written below it is what it shows itself; and so do its children, before and after
// they are moved. So after a crash, or when this was interrupted, it is called again with the same
// child and the same `into`, and does it all again. Memory is bounded by a few MiB.
//
// `into` gets the child's size. A smaller one gets it first, and zeroes there. A larger one loses
// what it has behind the child's end, which the child does not show, after the content is in it and
// before anybody else gets it as a parent: so what cannot be made good again comes last.
//
// As VHDX, `into` gets what the child says of the virtual disk with the content: its identifier and
// the physical sector size, [MS-VHDX] 2.6.1.2; users' metadata items are not merged. In the end it
// has the child's identity, 2.6.2.6.3: it has its content. It gets that before anything is removed.
// If other images have `into` or one between as their parent, as far as they can be known
// (known_children()), this is refused: they would be lost. Those that nobody knows of, in other
// folders, show other content from the first write on; as VHDX they find out when the identity
// changes, and no longer open, and so does an image between that is left there. A VHD has one
// identity for ever: its unknown children never find out, and after a crash just before the first
// image is removed, those between are left, and have `into` as their parent.
//
// When it is called again, such children of `into` are no reason to refuse it whose content it has
// already. As VHDX: the child's own children, and the image between that had `into` as its parent,
// if nobody wrote to that since, or gave it or another one between a child; the image above `into`
// says which these were (vhdx::key_merged). As VHD, which
// cannot say that: all, if `into` shows the child's disk already.
//
// All images are locked against everybody else meanwhile, but for a moment before `into` gets
// another size: whoever opens it then, or gives it a child, makes this end with Errc::busy, and
// nothing is lost. Files are removed with the symbolic links by which they were found.
//
// Errors, with nothing changed: invalid_argument (no parent; `into` not in the chain; other
// children; no path to `into` that a child can name); unsupported (images that are not all VHD or
// all VHDX; `into` cannot be written, or not get that size); busy (also an image that was changed,
// or got a child, just before the locks were taken); as Image::open(). Later: io, no_space,
// interrupted; then the child still shows its disk.
Async<MergeReport> merge(async::Loop& loop, const std::string& child_path,
                         const MergeOptions& options, const OpenOptions& open_options,
                         Progress* progress);

}  // namespace vhdkit::image
