// One mount from the opening of the image to its closing.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fuse/background.h"
#include "fuse/inner_mount.h"
#include "fuse/mount_options.h"
#include "fuse/overlay.h"
#include "fuse/session.h"
#include "image/image.h"

namespace vhdkit::fuse {

// What the user asked for.
struct MountPlan {
  std::string image_path;  // absolute, as is every path here
  std::string mount_point;
  MountOptions options;
  image::OpenOptions open;
  std::string name = "disk";  // of the disk's file; the others' names begin with it
  bool with_layers = false;
  bool one_at_a_time = false;
  std::optional<OverlayOptions> overlay;
  // Mounts the file system inside at mount_point instead of the folder with the disk.
  bool inner = false;
  std::optional<unsigned> partition;  // of the inner one; none: the only file system there is
};

// Loop-bound; the loop outlives it.
class Mounting {
 public:
  Mounting(async::Loop& loop, const MountPlan& plan, Background& background)
      : loop_(loop), plan_(plan), background_(background) {}
  ~Mounting();

  // Returns when the mount is gone and everything is written and closed. Errors before the mount is
  // usable leave nothing behind (interrupted: it was taken away by then); later ones are those of
  // the last flush and of the overlay's end.
  Async<void> run();

 private:
  struct Found {
    std::vector<Partition> partitions;
    std::vector<std::string> complaints;
    FoundFileSystem inner{};
  };

  // In this order.
  Result<void> check_mount_point() const;
  Async<void> open();
  Async<void> open_as_wished();
  Async<void> open_layers();
  Result<void> list_files();
  Result<void> choose_outer_mount_point();
  Result<void> mount();
  void look_for_partitions();
  void show_partitions();
  void mount_inside();
  void become_usable();
  void give_up(const Error& error);
  Async<void> close();

  image::Image& image() { return overlay_ ? overlay_->image() : *image_; }
  bool is_read_only() { return image().disk().geometry().read_only; }
  std::string outer_path(const std::string& name) const { return outer_mount_point_ + "/" + name; }

  async::Loop& loop_;
  MountPlan plan_;
  Background& background_;
  std::unique_ptr<image::Image> image_;
  std::unique_ptr<Overlay> overlay_;
  std::vector<std::unique_ptr<image::Image>> layers_;
  std::deque<ByteDisk> disks_;  // the disk, then the layers
  std::unique_ptr<FileSystem> files_;
  std::string outer_mount_point_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<Helper> helper_;
  Found found_;  // the helper's, then the loop's
  std::optional<size_t> inner_file_;
  bool is_usable_ = false;
  Result<void> outcome_;
};

}  // namespace vhdkit::fuse
