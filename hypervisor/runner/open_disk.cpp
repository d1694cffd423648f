#include "hypervisor/runner/open_disk.h"

#include <unistd.h>

#include "image/snapshot.h"

namespace vhdkit::hypervisor {
namespace {

using image::Image;

Async<std::unique_ptr<Image>> open_with_undo(async::Loop& loop, const DiskPlan& plan, UndoEnd end,
                                             OpenDisk& disk) {
  CO_TRY_LET(UndoDisk undo, co_await begin_undo(loop, plan.path, plan.open, end));
  auto opened = co_await open_undo(loop, undo, plan.path, plan.open);
  if (opened) {
    disk.open = options_for_child(plan.open, plan.path);
    disk.undo = std::move(undo);
  } else if (undo.is_new) {
    (void)co_await finish_undo(loop, undo.path, UndoEnd::discard);
  }
  co_return opened;
}

Async<std::unique_ptr<Image>> make_and_open_child(async::Loop& loop, const std::string& path,
                                                  const image::OpenOptions& open) {
  image::OpenOptions reading = open;
  reading.writable = false;
  const image::SnapshotOptions named_as_checkpoint;
  CO_TRY_LET(const std::string child,
             co_await image::snapshot(loop, path, named_as_checkpoint, reading));
  const image::OpenOptions child_options = options_for_child(open);
  auto opened = co_await Image::open(loop, child, child_options);
  if (!opened) unlink(child.c_str());
  co_return opened;
}

Async<void> reopen(OpenDisk& disk, const std::string& path, const image::OpenOptions& open) {
  disk.open = open;
  CO_TRY_LET(disk.image, co_await Image::open(disk.owner->loop(), path, open));
  co_return Result<void>();
}

// What a disk is after something was tried while its image was closed.
Async<void> reopen_after(OpenDisk& disk, const std::string& path, const image::OpenOptions& open,
                         Result<void> tried) {
  auto again = co_await reopen(disk, path, open);
  if (again) co_return tried;
  const std::string why = tried ? std::string() : tried.error().message + "; and ";
  co_return fail(Errc::io, why + "the disk could not be opened again: " + again.error().message);
}

Async<void> resize_closed(OpenDisk& disk, const std::string& path,
                          const image::ResizeOptions& options, image::OpenOptions open) {
  open.writable = false;
  auto resized = co_await image::resize(disk.owner->loop(), path, options, open, nullptr);
  CO_TRY(std::move(resized));
  co_return Result<void>();
}

}  // namespace

Async<void> open_disk(const DiskPlan& plan, std::optional<UndoEnd> undo_end, OpenDisk& disk) {
  async::Loop& loop = disk.owner->loop();
  disk.path = plan.path;
  disk.open = plan.open;
  if (undo_end && plan.open.writable) {
    CO_TRY_LET(disk.image, co_await open_with_undo(loop, plan, *undo_end, disk));
  } else {
    CO_TRY_LET(disk.image, co_await Image::open(loop, plan.path, plan.open));
    // Opened again, a fixed VHD is one whatever its guest has written to its head by then. What
    // passes for raw has to go on doing so.
    if (disk.image->format() != image::Format::raw) disk.open.format = disk.image->format();
  }
  disk.front = std::make_shared<disk::ExchangeableDisk>(disk.image->disk());
  co_return Result<void>();
}

Async<void> hold(OpenDisk& disk) {
  co_await disk.front->hold();
  co_return Result<void>();
}

void let_go(OpenDisk& disk) {
  if (disk.image != nullptr) return disk.front->go_on(disk.image->disk());
  disk.front->fail_all(
      {.code = Errc::io, .os_error = 0, .message = disk.path + ": is not open any more"});
}

Async<void> move_to_child(OpenDisk& disk) {
  // Until this is done nothing has changed; afterwards nothing that the guest wrote can be lost.
  CO_TRY(co_await disk.image->disk().flush());
  const std::string path = disk.image->path();
  const image::OpenOptions open = disk.open;
  auto closed = co_await disk.image->disk().close();
  disk.image.reset();
  Result<std::unique_ptr<Image>> child;
  if (closed) {
    child = co_await make_and_open_child(disk.owner->loop(), path, open);
  } else {
    child = std::unexpected(closed.error());
  }
  if (child) {
    disk.image = std::move(*child);
    disk.open = options_for_child(open);
    co_return Result<void>();
  }
  Result<void> failed = std::unexpected(child.error());
  co_return co_await reopen_after(disk, path, open, std::move(failed));
}

Async<void> move_back(OpenDisk& disk, const std::string& parent, const image::OpenOptions& open) {
  const std::string child = disk.image->path();
  // Nothing was written to it.
  (void)co_await disk.image->disk().close();
  disk.image.reset();
  unlink(child.c_str());
  co_return co_await reopen(disk, parent, open);
}

Async<void> resize_disk(OpenDisk& disk, image::ResizeOptions options) {
  CO_TRY(co_await disk.image->disk().flush());
  const std::string path = disk.image->path();
  const image::OpenOptions open = disk.open;
  auto outcome = co_await disk.image->disk().close();
  disk.image.reset();
  if (outcome) outcome = co_await resize_closed(disk, path, options, open);
  co_return co_await reopen_after(disk, path, open, std::move(outcome));
}

Async<void> close_disk(OpenDisk& disk, std::optional<UndoEnd> undo_end) {
  Result<void> closed;
  if (disk.image != nullptr) {
    const std::string path = disk.image->path();
    if (disk.is_writable()) closed = with_context(co_await disk.image->disk().close(), path);
    disk.image.reset();
  }
  if (!disk.undo || !undo_end) co_return closed;
  // What could not be closed is as after a crash: it is kept, so that nothing is lost twice.
  if (!closed && *undo_end != UndoEnd::discard)
    co_return fail(closed.error().code, closed.error().message +
                                            "; what was flushed is there, and vhd merge puts it "
                                            "into the disk");
  co_return co_await finish_undo(disk.owner->loop(), disk.undo->path, *undo_end);
}

}  // namespace vhdkit::hypervisor
