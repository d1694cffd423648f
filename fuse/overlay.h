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
  // parent. image_path: absolute. Errors: invalid_argument (a child of another image; a format that
  // has no children); exists; and as image::create() and image::Image::open().
  static Async<std::unique_ptr<Overlay>> open(async::Loop& loop, const std::string& image_path,
                                              const OverlayOptions& options,
                                              const image::OpenOptions& open_options);
  // What was not finished stays as it is.
  ~Overlay() = default;

  image::Image& image() { return *image_; }
  // After the disk was closed: does what was asked for at the end. Errors: as image::merge(); then
  // the child is still there, and says so.
  Async<void> finish();

 private:
  Overlay(async::Loop& loop, std::string path, OverlayEnd end, const image::OpenOptions& options)
      : loop_(loop), path_(std::move(path)), end_(end), open_options_(options) {}
  Async<void> make(const std::string& image_path);
  Async<void> open(const std::string& image_path);

  async::Loop& loop_;
  std::string path_;  // empty: removed already
  OverlayEnd end_;
  image::OpenOptions open_options_;
  std::unique_ptr<image::Image> image_;
};

}  // namespace vhdkit::fuse
