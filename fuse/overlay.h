// Writes that go beside the image: a differencing child for as long as the mount, or longer.
#pragma once

#include <memory>
#include <string>

#include "image/image.h"

namespace vhdkit::fuse {

enum class OverlayEnd {
  keep,     // the child stays as a file of its own
  commit,   // its content goes into the image, and the child is removed
  discard,  // it is removed
};

struct OverlayOptions {
  std::string path;  // absolute; empty: a file without a name under TMPDIR, or with one for commit
  OverlayEnd end = OverlayEnd::keep;
};

// Loop-bound; the loop outlives it.
class Overlay {
 public:
  // Makes the child, or opens the one that is there already, which must have the image as its
  // parent. A new one is readable for those who may read the image, at most; a temporary one for
  // its owner. image_path: absolute; open_options: of the image. Errors: invalid_argument (a child
  // of another image; a format that has no children); exists; and as image::create() and
  // image::Image::open().
  static Async<std::unique_ptr<Overlay>> open(async::Loop& loop, const std::string& image_path,
                                              const OverlayOptions& options,
                                              const image::OpenOptions& open_options);
  // A child that was made here and never used is removed; else what was not finished stays as it
  // is.
  ~Overlay();
  Overlay(const Overlay&) = delete;
  Overlay& operator=(const Overlay&) = delete;

  image::Image& image() { return *image_; }
  // From now on somebody may have written.
  void begin_use() { is_used_ = true; }
  // After the disk was closed: does what was asked for at the end; nothing where it was not used.
  // Errors: as image::merge(); then the child is still there, and says so.
  Async<void> finish();

 private:
  Overlay(async::Loop& loop, std::string image_path, const OverlayOptions& options,
          const image::OpenOptions& open_options);
  Async<void> make();
  Async<void> open();
  image::OpenOptions chain_options() const;

  async::Loop& loop_;
  std::string image_path_;
  std::string path_;  // empty: removed already
  bool is_temporary_;
  OverlayEnd end_;
  image::OpenOptions open_options_;  // of the image below
  bool is_new_ = false;
  bool is_used_ = false;
  std::unique_ptr<image::Image> image_;
};

}  // namespace vhdkit::fuse
