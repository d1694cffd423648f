// Folders on which something is mounted, and the mounts that were made here.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "support/result.h"

namespace vhdkit::fuse {

using Deadline = std::chrono::steady_clock::time_point;

// Whether another file system begins at this folder. It is asked.
bool is_mount_point(const std::string& path);

// A mount that was made here, told from what is mounted at the same folder before, upon it or after
// it, and wherever its folder is moved to. What is known of it comes from /proc/self/mountinfo: the
// file system is not asked.
struct Mounted {
  // The file that a loop device shows, by its file system and its own number.
  struct LoopFile {
    uint64_t device;
    uint64_t inode;
    bool operator==(const LoopFile&) const = default;
  };
  std::string mount_point;  // when it was found
  // The kernel gives all numbers out again, also those of loop devices, so it is the same one where
  // all four are the same.
  int id;
  dev_t device;  // the file system's, which may be mounted in other folders too
  std::string source;
  std::optional<LoopFile> loop_file;
  bool is_fuse;  // another program serves it, which may not answer
};
// What somebody who comes to the folder finds mounted there. path: absolute, without links.
std::optional<Mounted> mounted_at(const std::string& path);
// All mounts of its file system that this process sees, as far as the kernel's numbers tell.
std::vector<Mounted> mounts_like(const Mounted& mounted);

enum class Presence {
  visible,
  covered,  // something else was mounted upon it, or above: what is done at its folder is done to
            // that; or the kernel does not tell
  gone,
};
Presence presence_of(const Mounted& mounted);
// Whether this descriptor is of a file there.
bool is_of(int descriptor, const Mounted& mounted);

// All of these may wait for what is written back meanwhile, so they are never called on the thread
// that serves it. What is covered is left alone, since another one would be met in its place, and
// so is what others have mounted something in.

// Unmounts as soon as nobody has a file there any more. False: at the deadline it was in use, or
// covered.
bool unmount_unused(const Mounted& mounted, Deadline deadline);

// Unmounts for whoever comes from now on; who is there stays there. Errors: io, also where it is
// left alone.
Result<void> detach(const Mounted& mounted);

// The one, or at the deadline the other. Errors: busy (it was the other); io.
Result<void> take_away(const Mounted& mounted, Deadline deadline);

}  // namespace vhdkit::fuse
