// A folder with images, and a loop to work on them.
#pragma once

#include <filesystem>

#include "image/convert.h"
#include "tests/support/await.h"
#include "tests/support/content.h"
#include "tests/support/temporary_folder.h"

namespace vhdkit::tests {

class ImagePlace {
 public:
  std::string path(const std::string& name) const { return folder_.path(name); }
  async::Loop& loop() { return *loop_; }

  Result<std::unique_ptr<image::Image>> open(const std::string& name,
                                             const image::OpenOptions& options = {}) {
    return loop_->run(image::Image::open(*loop_, path(name), options));
  }

  Result<image::ConvertReport> convert(const std::string& from, const std::string& to,
                                       const image::ConvertOptions& options,
                                       image::Progress* progress = nullptr) {
    auto source = open(from);
    if (!source) return std::unexpected(source.error());
    return loop_->run(image::convert(*loop_, **source, path(to), options, progress));
  }

  // All that the guest sees.
  Content content(image::Image& image) {
    Content content(image.disk().geometry().size_bytes);
    const std::span<std::byte> buffer(content);
    REQUIRE_OK(loop_->run(image.disk().read(0, buffer)));
    return content;
  }
  Content content(const std::string& name) {
    auto image = open(name);
    REQUIRE_OK(image);
    return content(**image);
  }

  size_t file_count(const std::string& folder = "") const {
    namespace fs = std::filesystem;
    return size_t(std::distance(fs::directory_iterator(path(folder)), fs::directory_iterator()));
  }

 private:
  TemporaryFolder folder_;
  std::unique_ptr<async::Loop> loop_ = std::move(*async::Loop::create());
};

}  // namespace vhdkit::tests
