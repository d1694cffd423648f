#include "fuse/mount_point.h"

#include <errno.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "fuse/programs.h"

namespace vhdkit::fuse {
namespace {

constexpr std::chrono::milliseconds between_tries(100);

enum class How { unused, detached };

Result<void> unmount(const std::string& mount_point, How how) {
  const bool detaches = how == How::detached;
  if (geteuid() != 0)
    return run_program({"fusermount3", detaches ? "-uz" : "-uq", "--", mount_point});
  // EINVAL: somebody else was faster.
  const int flags = UMOUNT_NOFOLLOW | (detaches ? MNT_DETACH : 0);
  if (umount2(mount_point.c_str(), flags) == 0 || errno == EINVAL) return {};
  return fail_errno(errno, mount_point + ": unmounting");
}

}  // namespace

bool is_mount_point(const std::string& path) {
  struct stat here;
  struct stat above;
  return stat(path.c_str(), &here) == 0 && stat((path + "/..").c_str(), &above) == 0 &&
         here.st_dev != above.st_dev;
}

bool unmount_unused(const std::string& mount_point, Deadline deadline) {
  while (!unmount(mount_point, How::unused)) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(between_tries);
  }
  return true;
}

Result<void> detach(const std::string& mount_point) { return unmount(mount_point, How::detached); }

Result<void> take_away(const std::string& mount_point, Deadline deadline) {
  if (unmount_unused(mount_point, deadline)) return {};
  TRY(detach(mount_point));
  return fail(Errc::busy, mount_point +
                              ": is unmounted while it is in use: who has a file there "
                              "can neither read nor write it any more");
}

}  // namespace vhdkit::fuse
