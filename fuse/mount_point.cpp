#include "fuse/mount_point.h"

#include <errno.h>
#include <fcntl.h>
#include <libmount/libmount.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <thread>

#include "fuse/programs.h"
#include "support/descriptor.h"

namespace vhdkit::fuse {
namespace {

constexpr std::chrono::milliseconds between_tries(100);

struct MountEntry {
  Mounted mounted;
  int parent_id;
};

std::string text(const char* words) { return words != nullptr ? words : ""; }

std::optional<Mounted::LoopFile> loop_file_of(const std::string& source) {
  if (!source.starts_with("/dev/loop")) return std::nullopt;
  const Descriptor loop(::open(source.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  loop_info64 status = {};
  if (!loop.is_open() || ioctl(loop.number(), LOOP_GET_STATUS64, &status) != 0) return std::nullopt;
  return Mounted::LoopFile{.device = status.lo_device, .inode = status.lo_inode};
}

MountEntry entry_of(libmnt_fs* entry) {
  const std::string type = text(mnt_fs_get_fstype(entry));
  return {.mounted = {.mount_point = text(mnt_fs_get_target(entry)),
                      .id = mnt_fs_get_id(entry),
                      .device = mnt_fs_get_devno(entry),
                      .source = text(mnt_fs_get_source(entry)),
                      .loop_file = std::nullopt,
                      .is_fuse = type.starts_with("fuse")},
          .parent_id = mnt_fs_get_parent_id(entry)};
}

// In the kernel's order. Nothing where it does not tell.
std::optional<std::vector<MountEntry>> all_mounts() {
  const std::unique_ptr<libmnt_table, void (*)(libmnt_table*)> table(
      mnt_new_table_from_file("/proc/self/mountinfo"), [](libmnt_table* one) {
        if (one != nullptr) mnt_unref_table(one);
      });
  const std::unique_ptr<libmnt_iter, void (*)(libmnt_iter*)> position(
      mnt_new_iter(MNT_ITER_FORWARD), mnt_free_iter);
  if (table == nullptr || position == nullptr) return std::nullopt;
  std::vector<MountEntry> entries;
  for (libmnt_fs* entry = nullptr; mnt_table_next_fs(table.get(), position.get(), &entry) == 0;)
    entries.push_back(entry_of(entry));
  return entries;
}

bool is_covered(const Mounted& mounted, const std::vector<MountEntry>& all) {
  return std::ranges::any_of(all, [&](const MountEntry& other) {
    return other.parent_id == mounted.id && other.mounted.mount_point == mounted.mount_point;
  });
}

bool is_same(const Mounted& now, const Mounted& mounted) {
  return now.id == mounted.id && now.device == mounted.device && now.source == mounted.source &&
         loop_file_of(now.source) == mounted.loop_file;
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

// Where it is and what can be done to it, at this moment.
struct State {
  Presence presence;
  std::string path = {};
  bool has_others_in_it = false;
};

State state_of(const Mounted& mounted) {
  const auto all = all_mounts();
  if (!all) return {.presence = Presence::covered, .path = mounted.mount_point};
  const auto entry = std::ranges::find_if(
      *all, [&](const MountEntry& one) { return is_same(one.mounted, mounted); });
  if (entry == all->end()) return {.presence = Presence::gone};
  const std::string& path = entry->mounted.mount_point;
  const bool is_found = is_found_at(path, mounted);
  return {.presence = is_found ? Presence::visible : Presence::covered,
          .path = path,
          .has_others_in_it =
              std::ranges::find(*all, mounted.id, &MountEntry::parent_id) != all->end()};
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
  const auto all = all_mounts();
  if (!all) return std::nullopt;
  for (const MountEntry& entry : *all) {
    if (entry.mounted.mount_point != path || is_covered(entry.mounted, *all)) continue;
    Mounted mounted = entry.mounted;
    mounted.loop_file = loop_file_of(mounted.source);
    return mounted;
  }
  return std::nullopt;
}

std::vector<Mounted> mounts_like(const Mounted& mounted) {
  std::vector<Mounted> found;
  for (const MountEntry& entry : all_mounts().value_or(std::vector<MountEntry>())) {
    Mounted other = entry.mounted;
    if (other.device != mounted.device || other.source != mounted.source) continue;
    other.loop_file = mounted.loop_file;
    found.push_back(std::move(other));
  }
  return found;
}

Presence presence_of(const Mounted& mounted) { return state_of(mounted).presence; }

bool is_of(int descriptor, const Mounted& mounted) {
  struct statx status = {};
  return statx(descriptor, "", AT_EMPTY_PATH, STATX_MNT_ID, &status) == 0 &&
         has_number(status, mounted) && loop_file_of(mounted.source) == mounted.loop_file;
}

bool unmount_unused(const Mounted& mounted, Deadline deadline) {
  for (;;) {
    const State state = state_of(mounted);
    if (state.presence == Presence::gone) return true;
    if (state.presence == Presence::visible && unmount(state.path, How::unused)) return true;
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(between_tries);
  }
}

Result<void> detach(const Mounted& mounted) {
  const State state = state_of(mounted);
  if (state.presence == Presence::gone) return {};
  if (state.presence == Presence::covered || state.has_others_in_it)
    return fail(Errc::io, state.path +
                              ": is left there, without its files, since something else is mounted "
                              "upon it or in it; unmount that, then this one");
  auto detached = unmount(state.path, How::detached);
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
