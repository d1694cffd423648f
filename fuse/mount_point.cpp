#include "fuse/mount_point.h"

#include <errno.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuse/programs.h"

namespace vhdkit::fuse {

bool is_mount_point(const std::string& path) {
  struct stat here;
  struct stat above;
  return stat(path.c_str(), &here) == 0 && stat((path + "/..").c_str(), &above) == 0 &&
         here.st_dev != above.st_dev;
}

Result<void> take_away(const std::string& mount_point) {
  if (geteuid() == 0) {
    // EINVAL: somebody else was faster.
    if (umount2(mount_point.c_str(), UMOUNT_NOFOLLOW) == 0 || errno == EINVAL) return {};
    if (umount2(mount_point.c_str(), UMOUNT_NOFOLLOW | MNT_DETACH) == 0) return {};
    return fail_errno(errno, mount_point + ": unmounting");
  }
  const std::string program = "fusermount3";
  if (run_program({program, "-u", "-q", "--", mount_point})) return {};
  return run_program({program, "-u", "-z", "--", mount_point});
}

}  // namespace vhdkit::fuse
