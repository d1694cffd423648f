// The file system inside: a partition's own files, mounted from its file in the mounted folder.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fuse/mount_point.h"
#include "fuse/partitions.h"

namespace vhdkit::fuse {

struct InnerMount {
  std::string file;  // of the partition, in the mounted folder
  std::string type;  // what libblkid calls it
  std::string mount_point;
  bool read_only;
};

// As root through a loop device, which goes away with the mount; else by a FUSE driver for the
// type. Blocks: on a thread that does not serve the file. Errors: unsupported, naming the driver's
// package or the need for root; io.
Result<void> mount_inner(const InnerMount& inner);

// What was mounted from a file of another mount, the outer one, wherever it is mounted by now.
// Blocking, as above.

// Puts everything that was written there into the file. False: it is mounted nowhere that this
// process sees, or by a FUSE driver, which is not asked: it may never answer.
bool sync_inner(const Mounted& inner);

// Makes it write everything and refuse what comes later; it needs no recovery then. False: as
// above, or it is a file system of the kernel's that cannot do so.
bool close_to_writers(const Mounted& inner);

// A FUSE driver that has ended without unmounting.
bool has_lost_its_driver(const Mounted& inner);

// Unmounts as soon as nobody uses it. At the deadline it is closed to writers and taken from its
// users. Errors: busy (it was taken, with all that was written); io (it was taken, and something
// may be lost; or it could not be taken).
Result<void> unmount_inner(const Mounted& inner, Deadline deadline);

// Which partition holds the only file system; 0: the disk itself does, without a table. Errors:
// not_found; invalid_argument where there are several, listing them.
struct FoundFileSystem {
  unsigned partition;
  std::string type;
};
Result<FoundFileSystem> find_file_system(int descriptor, uint64_t disk_bytes,
                                         const std::vector<Partition>& partitions,
                                         std::optional<unsigned> wanted);

}  // namespace vhdkit::fuse
