#include "fuse/mount_point.h"

#include <errno.h>
#include <fcntl.h>
#include <libmount/libmount.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <thread>

#include "fuse/programs.h"

namespace vhdkit::fuse {
namespace {

constexpr std::chrono::milliseconds between_tries(100);

struct MountEntry {
  Mounted mounted;
  int parent_id;
};

std::string text(const char* words) { return words != nullptr ? words : ""; }

// In the kernel's order; none where it does not tell.
std::vector<MountEntry> all_mounts() {
  const std::unique_ptr<libmnt_table, void (*)(libmnt_table*)> table(
      mnt_new_table_from_file("/proc/self/mountinfo"), [](libmnt_table* one) {
        if (one != nullptr) mnt_unref_table(one);
      });
  const std::unique_ptr<libmnt_iter, void (*)(libmnt_iter*)> position(
      mnt_new_iter(MNT_ITER_FORWARD), mnt_free_iter);
  std::vector<MountEntry> entries;
  libmnt_fs* entry = nullptr;
  while (table != nullptr && mnt_table_next_fs(table.get(), position.get(), &entry) == 0) {
    entries.push_back({.mounted = {.mount_point = text(mnt_fs_get_target(entry)),
                                   .id = mnt_fs_get_id(entry),
                                   .device = mnt_fs_get_devno(entry),
                                   .source = text(mnt_fs_get_source(entry))},
                       .parent_id = mnt_fs_get_parent_id(entry)});
  }
  return entries;
}

bool is_covered(const Mounted& mounted, const std::vector<MountEntry>& all) {
  return std::ranges::any_of(all, [&](const MountEntry& other) {
    return other.parent_id == mounted.id && other.mounted.mount_point == mounted.mount_point;
  });
}

// Where it is mounted now. Nothing: it has gone.
std::optional<std::string> place_of(const Mounted& mounted) {
  for (const MountEntry& entry : all_mounts())
    if (entry.mounted.id == mounted.id && entry.mounted.device == mounted.device &&
        entry.mounted.source == mounted.source)
      return entry.mounted.mount_point;
  return std::nullopt;
}

bool has_number(const struct statx& status, const Mounted& mounted) {
  return (status.stx_mask & STATX_MNT_ID) != 0 && status.stx_mnt_id == uint64_t(mounted.id);
}

// Whether whoever comes to this path finds it. The file system is not asked.
bool is_found_at(const std::string& path, const Mounted& mounted) {
  constexpr int flags = AT_STATX_DONT_SYNC | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;
  struct statx status = {};
  return statx(AT_FDCWD, path.c_str(), flags, STATX_MNT_ID, &status) == 0 &&
         has_number(status, mounted);
}

enum class How { unused, detached };

Result<void> unmount(const std::string& mount_point, How how) {
  const bool detaches = how == How::detached;
  if (geteuid() != 0)
    return run_program({"fusermount3", detaches ? "-uz" : "-uq", "--", mount_point});
  const int flags = UMOUNT_NOFOLLOW | (detaches ? MNT_DETACH : 0);
  if (umount2(mount_point.c_str(), flags) == 0) return {};
  return fail_errno(errno, mount_point + ": unmounting");
}

}  // namespace

bool is_mount_point(const std::string& path) {
  struct stat here;
  struct stat above;
  return stat(path.c_str(), &here) == 0 && stat((path + "/..").c_str(), &above) == 0 &&
         here.st_dev != above.st_dev;
}

std::optional<Mounted> mounted_at(const std::string& path) {
  const std::vector<MountEntry> all = all_mounts();
  for (const MountEntry& entry : all)
    if (entry.mounted.mount_point == path && !is_covered(entry.mounted, all)) return entry.mounted;
  return std::nullopt;
}

std::vector<Mounted> mounts_of(dev_t device) {
  std::vector<Mounted> found;
  for (const MountEntry& entry : all_mounts())
    if (entry.mounted.device == device) found.push_back(entry.mounted);
  return found;
}

Presence presence_of(const Mounted& mounted) {
  const auto place = place_of(mounted);
  if (!place) return Presence::gone;
  return is_found_at(*place, mounted) ? Presence::visible : Presence::covered;
}

bool is_of(int descriptor, const Mounted& mounted) {
  struct statx status = {};
  return statx(descriptor, "", AT_EMPTY_PATH, STATX_MNT_ID, &status) == 0 &&
         has_number(status, mounted);
}

bool unmount_unused(const Mounted& mounted, Deadline deadline) {
  for (;;) {
    const auto place = place_of(mounted);
    if (!place) return true;
    if (is_found_at(*place, mounted) && unmount(*place, How::unused)) return true;
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(between_tries);
  }
}

Result<void> detach(const Mounted& mounted) {
  const auto place = place_of(mounted);
  if (!place) return {};
  if (!is_found_at(*place, mounted))
    return fail(Errc::io, *place +
                              ": is left there, without its files, since something else is mounted "
                              "upon it; unmount that, then this one");
  auto detached = unmount(*place, How::detached);
  // Somebody else was faster.
  if (!detached && presence_of(mounted) == Presence::gone) return {};
  return detached;
}

Result<void> take_away(const Mounted& mounted, Deadline deadline) {
  if (unmount_unused(mounted, deadline)) return {};
  TRY(detach(mounted));
  return fail(Errc::busy, mounted.mount_point +
                              ": is unmounted while it is in use: who has a file there "
                              "can neither read nor write it any more");
}

}  // namespace vhdkit::fuse
