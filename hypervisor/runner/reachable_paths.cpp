#include "hypervisor/runner/reachable_paths.h"

#include <cassert>
#include <filesystem>

#include "async/file.h"

namespace vhdkit::hypervisor {
namespace {

namespace fs = std::filesystem;

// Leaves no ring and no thread of the kernel's behind.
std::unique_ptr<async::Loop> plain_loop() {
  auto loop = async::Loop::create({.engine = async::Engine::synchronous});
  assert(loop);
  return std::move(*loop);
}

std::string folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path().string() : ".";
}

class Paths {
 public:
  Paths(const MachinePlan& plan, const RunnerPaths& runner) : plan_(plan), runner_(runner) {}

  Result<std::vector<AllowedPath>> all() {
    if (plan_.iso) add(*plan_.iso, PathUse::read);
    for (const DiskPlan& disk : plan_.disks) {
      TRY(add_disk(disk));
    }
    if (plan_.iso && runner_.is_controlled) add_folders(*plan_.iso, PathUse::read);
    for (const std::string& folder : runner_.folders) add(folder, PathUse::change);
    for (const std::string& socket : runner_.sockets) add(folder_of(socket), PathUse::remove);
    return std::move(paths_);
  }

 private:
  void add(const std::string& path, PathUse use) { paths_.push_back({.path = path, .use = use}); }

  // As the path says, and where it leads to: names are made beside either.
  void add_folders(const std::string& path, PathUse use) {
    std::error_code ignored;
    const fs::path real = fs::weakly_canonical(path, ignored);
    add(folder_of(path), use);
    if (!real.empty()) add(folder_of(real), use);
  }

  Result<void> add_disk(const DiskPlan& disk) {
    const bool is_written = disk.open.writable && !plan_.undo;
    add(disk.path, is_written ? PathUse::change : PathUse::read);
    TRY(add_parents(disk));
    // Not those of devices: there is only one file of it for us in /dev.
    std::error_code ignored;
    if (fs::is_block_file(disk.path, ignored)) return {};
    const bool have_children = plan_.undo.has_value() || runner_.is_controlled;
    add_folders(disk.path, have_children ? PathUse::change : PathUse::read);
    return {};
  }

  // A first image that does not open now says so when the machine opens it. Where a chain breaks is
  // a path of the images' own choice, which has proved nothing.
  Result<void> add_parents(const DiskPlan& disk) {
    image::OpenOptions options = disk.open;
    options.writable = options.direct = false;
    options.force_share = true;
    const auto image = loop_->run(image::Image::inspect(*loop_, disk.path, options));
    if (!image) return {};
    for (const image::ChainLink& link : (*image)->links()) {
      if (link.verdict != image::LinkVerdict::ok) return error_of_opening(disk.path, options);
      add(link.path, PathUse::read);
    }
    return {};
  }

  Result<void> error_of_opening(const std::string& path, const image::OpenOptions& options) {
    TRY(loop_->run(image::Image::open(*loop_, path, options)));
    return {};
  }

  const MachinePlan& plan_;
  const RunnerPaths& runner_;
  std::unique_ptr<async::Loop> loop_ = plain_loop();
  std::vector<AllowedPath> paths_;
};

}  // namespace

Result<void> check_disks_are_free(const MachinePlan& plan) {
  const auto loop = plain_loop();
  for (const DiskPlan& disk : plan.disks) {
    using async::SystemFile;
    const bool is_written = disk.open.writable && !plan.undo;
    const auto file = SystemFile::open(
        *loop, disk.path,
        is_written ? SystemFile::Access::read_write : SystemFile::Access::read_only);
    if (!file && file.error().code == Errc::busy) return std::unexpected(file.error());
  }
  return {};
}

Result<std::vector<AllowedPath>> reachable_paths(const MachinePlan& plan,
                                                 const RunnerPaths& runner) {
  return Paths(plan, runner).all();
}

}  // namespace vhdkit::hypervisor
