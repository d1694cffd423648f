#include "fuse/inner_mount.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>

#include "fuse/programs.h"
#include "support/descriptor.h"

namespace vhdkit::fuse {
namespace {

// FUSE drivers that Debian has, for those who are not root.
struct Driver {
  std::string_view type;
  std::string_view program;
  std::string_view package;
  std::string_view options;  // beside ro or rw
};
constexpr Driver drivers[] = {
    {"ext2", "fuse2fs", "fuse2fs", ",fakeroot"},  {"ext3", "fuse2fs", "fuse2fs", ",fakeroot"},
    {"ext4", "fuse2fs", "fuse2fs", ",fakeroot"},  {"ntfs", "ntfs-3g", "ntfs-3g", ""},
    {"vfat", "fusefat", "fusefat", ""},           {"exfat", "mount.exfat-fuse", "exfat-fuse", ""},
    {"squashfs", "squashfuse", "squashfuse", ""},
};

Result<void> mount_by_driver(const InnerMount& inner) {
  const auto driver = std::ranges::find(drivers, inner.type, &Driver::type);
  if (driver == std::end(drivers))
    return fail(Errc::unsupported,
                fmt::format("{}: only root can mount {}: there is no FUSE driver for it",
                            inner.file, inner.type));
  const std::string program(driver->program);
  if (!has_program(program))
    return fail(Errc::unsupported,
                fmt::format("{}: {} is mounted by {}, which is not installed (Debian's package {})",
                            inner.file, inner.type, program, driver->package));
  const std::string options = (inner.read_only ? "ro" : "rw") + std::string(driver->options);
  return run_program({program, "-o", options, inner.file, inner.mount_point});
}

// Closed where something else is mounted there by now, and where a driver would be asked. As long
// as it is open, the file system keeps its device.
Descriptor open_root(const Mounted& mounted) {
  if (mounted.is_fuse) return Descriptor();
  Descriptor root(open(mounted.mount_point.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return root.is_open() && is_of(root.number(), mounted) ? std::move(root) : Descriptor();
}

// XFS's FSOP_GOINGDOWN, which ext4, f2fs and others have taken over; 0 is its default, which writes
// everything as for a snapshot before it lets all else fail.
constexpr unsigned long shut_down = _IOR('X', 125, uint32_t);
constexpr uint32_t after_writing = 0;

// The file system, and none of the options of the folders where it is mounted.
bool make_read_only(int root) {
  const Descriptor changes(fspick(root, "", FSPICK_EMPTY_PATH | FSPICK_CLOEXEC));
  return changes.is_open() &&
         fsconfig(changes.number(), FSCONFIG_SET_FLAG, "ro", nullptr, 0) == 0 &&
         fsconfig(changes.number(), FSCONFIG_CMD_RECONFIGURE, nullptr, nullptr, 0) == 0;
}

// Read-only is as good as unmounted, but not possible while a file is open for writing.
bool close_to_writers_at(const Mounted& mounted) {
  const Descriptor root = open_root(mounted);
  return root.is_open() &&
         (make_read_only(root.number()) || ioctl(root.number(), shut_down, &after_writing) == 0);
}

std::string name_of(unsigned partition) {
  return partition == 0 ? "the whole disk" : fmt::format("partition {}", partition);
}

}  // namespace

Result<void> mount_inner(const InnerMount& inner) {
  if (geteuid() != 0) return mount_by_driver(inner);
  return run_program({"mount", "-t", inner.type, "-o", inner.read_only ? "loop,ro" : "loop",
                      inner.file, inner.mount_point});
}

bool sync_inner(const Mounted& inner) {
  for (const Mounted& mounted : mounts_like(inner)) {
    const Descriptor root = open_root(mounted);
    if (!root.is_open()) continue;
    syncfs(root.number());
    return true;
  }
  return false;
}

bool close_to_writers(const Mounted& inner) {
  return std::ranges::any_of(mounts_like(inner), close_to_writers_at);
}

bool has_lost_its_driver(const Mounted& inner) {
  struct statx status = {};
  return presence_of(inner) == Presence::visible &&
         statx(AT_FDCWD, inner.mount_point.c_str(), AT_STATX_FORCE_SYNC, STATX_MODE, &status) !=
             0 &&
         errno == ENOTCONN;
}

Result<void> unmount_inner(const Mounted& inner, Deadline deadline) {
  if (unmount_unused(inner, deadline)) return {};
  const bool is_closed = close_to_writers(inner);
  if (!is_closed) sync_inner(inner);
  TRY(detach(inner));
  return fail(is_closed ? Errc::busy : Errc::io,
              fmt::format("{}: is unmounted while it is in use: {}", inner.mount_point,
                          is_closed ? "what was written is in the image, and nothing can be "
                                      "written any more"
                                    : "what is not in the image yet is lost, and the file system "
                                      "may need a check"));
}

Result<FoundFileSystem> find_file_system(int descriptor, uint64_t disk_bytes,
                                         const std::vector<Partition>& partitions,
                                         std::optional<unsigned> wanted) {
  std::vector<Partition> candidates = partitions;
  if (partitions.empty() || wanted == 0U) candidates = {{0, 0, disk_bytes}};
  if (wanted && *wanted != 0)
    std::erase_if(candidates, [&](const Partition& one) { return one.number != *wanted; });
  if (candidates.empty())
    return fail(Errc::not_found, fmt::format("the disk has no {}", name_of(*wanted)));
  std::vector<FoundFileSystem> found;
  std::string list;
  for (const Partition& one : candidates) {
    TRY_LET(const std::string type, file_system_at(descriptor, one.disk_offset, one.length));
    if (type.empty()) continue;
    found.push_back({one.number, type});
    list += fmt::format("{}{} ({})", list.empty() ? "" : ", ", name_of(one.number), type);
  }
  if (found.empty())
    return fail(Errc::not_found,
                wanted ? fmt::format("{} holds no file system that is known here", name_of(*wanted))
                       : "no partition of the disk holds a file system that is known here");
  if (found.size() > 1)
    return fail(Errc::invalid_argument,
                fmt::format("there are several file systems: {}; --partition says which", list));
  return found.front();
}

}  // namespace vhdkit::fuse
