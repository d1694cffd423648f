#include "fuse/ending.h"

#include <unistd.h>

#include "fuse/inner_mount.h"

namespace vhdkit::fuse {
namespace {

Deadline deadline_of_users() { return std::chrono::steady_clock::now() + time_for_users; }

// Its own mount has gone, but its file is open: it is mounted elsewhere, its last user keeps it, or
// its driver has not written everything yet.
Result<void> end_what_lives_on(const Mounted& outer, const Mounted& inner) {
  const bool is_closed = close_to_writers(inner);
  // Where it is mounted nowhere, or not to be seen, it can still be asked together with all others.
  if (!is_closed && geteuid() == 0) sync();
  TRY(detach(outer));
  if (is_closed)
    return fail(Errc::busy, inner.mount_point +
                                ": its files are in use elsewhere: what was written is in the "
                                "image, and nothing can be written any more");
  return fail(Errc::io,
              inner.mount_point +
                  ": its files are still in use, where they cannot be taken away: what "
                  "is not in the image yet is lost, and the file system may need a check");
}

// What was said of the inner one is worth more than that the outer one was in use.
Result<void> with_outer_end(Result<void> inner_end, Result<void> outer_end) {
  const bool is_worse = !outer_end && outer_end.error().code != Errc::busy;
  return inner_end || is_worse ? outer_end : inner_end;
}

}  // namespace

Result<void> end_mounts(const Mounted& outer, const std::optional<Inner>& inner) {
  if (!inner) return take_away(outer, deadline_of_users());
  sync_inner(inner->mounted);
  const Deadline deadline = deadline_of_users();
  if (presence_of(inner->mounted) == Presence::visible) {
    auto inner_end = unmount_inner(inner->mounted, deadline);
    // As long as the inner one's users keep it, its file is open.
    if (!inner_end) return with_outer_end(std::move(inner_end), take_away(outer, deadline));
  }
  if (unmount_unused(outer, deadline_of_users())) return {};
  if (inner->open_count == 0) return take_away(outer, deadline);
  return end_what_lives_on(outer, inner->mounted);
}

Result<void> end_what_is_dead(const Mounted& outer, const std::optional<Inner>& inner) {
  if (inner) TRY(detach(inner->mounted));
  TRY(detach(outer));
  return fail(Errc::io, (inner ? inner->mounted : outer).mount_point +
                            ": was ended by the kernel while it was in use: what is not in the "
                            "image yet is lost");
}

Result<void> end_after_inner(const Mounted& outer, const Mounted& inner) {
  Result<void> inner_end;
  if (has_lost_its_driver(inner)) {
    inner_end = fail(Errc::io, inner.mount_point +
                                   ": its driver has ended without unmounting it: what it had not "
                                   "written yet is lost, and the file system may need a check");
    if (auto detached = detach(inner); !detached) inner_end = std::move(detached);
  }
  return with_outer_end(std::move(inner_end), take_away(outer, deadline_of_users()));
}

}  // namespace vhdkit::fuse
