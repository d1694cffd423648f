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

// A file system that was mounted, told from others that are mounted there later.
struct InnerFileSystem {
  std::string mount_point;
  dev_t device;
};
// What is mounted there now.
std::optional<InnerFileSystem> inner_at(const std::string& mount_point);
bool is_there(const InnerFileSystem& inner);

// Puts everything that was written there into the file, but for what a FUSE driver keeps to itself.
// Blocks, as above.
void sync_inner(const InnerFileSystem& inner);

// Unmounts as soon as nobody uses it. At the deadline it is taken from its users: a file system of
// the kernel is made to write everything and to refuse what comes later, where it can do so, and
// needs no recovery then. Blocks, as above. Errors: busy (it was taken, with all that was written);
// io (it was taken, and something may be lost; or it could not be taken).
Result<void> unmount_inner(const InnerFileSystem& inner, Deadline deadline);

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
