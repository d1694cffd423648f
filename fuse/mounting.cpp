#include "fuse/mounting.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <filesystem>

#include "fuse/mount_point.h"
#include "fuse/report.h"
#include "image/known_children.h"
#include "support/descriptor.h"
#include "tools/info_json.h"

namespace vhdkit::fuse {
namespace {

namespace fs = std::filesystem;

bool is_about_access(Errc code) {
  return code == Errc::busy || code == Errc::permission || code == Errc::read_only ||
         code == Errc::unsupported;
}

// Empty, or why an image that nobody asked to write is better left alone.
Async<std::string> reason_to_only_read(async::Loop& loop, image::Image& image) {
  disk::Layer& layer = image.disk().layer(0);
  const disk::Description description = layer.describe();
  if (description.text("log-state") == "dirty") co_return std::string("its log is dirty");
  CO_TRY_LET(const std::vector<std::string> children,
             co_await image::known_children(loop, image.path(), layer));
  if (!children.empty()) co_return "it is the parent of " + children.front();
  co_return std::string();
}

// Of all files of the chain, as they are now where that can be asked.
uint64_t allocated_bytes(image::Image& image) {
  uint64_t total = 0;
  for (size_t depth = 0; depth < image.disk().layer_count(); ++depth) {
    const int descriptor = image.disk().layer(uint32_t(depth)).file().descriptor(0, 0);
    struct stat status;
    total += descriptor >= 0 && fstat(descriptor, &status) == 0
                 ? uint64_t(status.st_blocks) * 512
                 : image.links()[depth].allocated_bytes;
  }
  return total;
}

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == ',' || c == '\\') result += '\\';
    result += c;
  }
  return result;
}

bool says(const std::vector<std::string>& options, std::string_view name) {
  return std::ranges::any_of(options, [&](const std::string& one) {
    return one == name || one.starts_with(std::string(name) + "=");
  });
}

std::string partition_name(const std::string& disk, unsigned number) {
  return fmt::format("{}.p{}", disk, number);
}

}  // namespace

Mounting::~Mounting() {
  // A folder of ours, if it is still there and empty.
  if (!outer_mount_point_.empty() && outer_mount_point_ != plan_.mount_point)
    rmdir(outer_mount_point_.c_str());
}

Async<void> Mounting::run() {
  CO_TRY(check_mount_point());
  CO_TRY(co_await open());
  auto prepared = co_await open_layers();
  if (prepared) prepared = list_files();
  if (prepared) prepared = choose_outer_mount_point();
  if (prepared) prepared = mount();
  if (prepared) {
    helper_ = std::make_unique<Helper>();
    look_for_partitions();
    prepared = co_await session_->serve(*helper_);
    if (outcome_ && !is_usable_)
      outcome_ =
          fail(Errc::interrupted, plan_.mount_point + ": was unmounted before it could be used");
    session_.reset();
    helper_.reset();
  }
  auto closed = co_await close();
  CO_TRY(std::move(prepared));
  CO_TRY(std::move(outcome_));
  co_return closed;
}

Result<void> Mounting::check_mount_point() const {
  const std::string& path = plan_.mount_point;
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return fail_errno(errno, path);
  if (!S_ISDIR(status.st_mode)) return fail_errno(ENOTDIR, path);
  if (is_mount_point(path)) return fail(Errc::busy, path + ": something is mounted there already");
  std::error_code unreadable;
  const bool is_empty = fs::is_empty(path, unreadable);
  if (unreadable) return fail_errno(unreadable.value(), path);
  if (!is_empty && !plan_.options.allows_not_empty)
    return fail(Errc::exists, path + ": is not empty; -o nonempty hides what is in it");
  return {};
}

// --- the image ---

Async<void> Mounting::open() {
  if (!plan_.overlay) co_return co_await open_as_wished();
  CO_TRY_LET(overlay_, co_await Overlay::open(loop_, plan_.image_path, *plan_.overlay, plan_.open));
  co_return Result<void>();
}

Async<void> Mounting::open_as_wished() {
  const bool is_wished = plan_.options.read_only.has_value();
  image::OpenOptions options = plan_.open;
  options.writable = plan_.options.read_only == false;
  CO_TRY_LET(image_, co_await image::Image::open(loop_, plan_.image_path, options));
  for (const std::string& warning : image_->warnings()) report(warning);
  if (is_wished || options.ignore_log || options.force_share) co_return Result<void>();
  CO_TRY_LET(std::string reason, co_await reason_to_only_read(loop_, *image_));
  if (reason.empty()) {
    image_.reset();
    options.writable = true;
    auto opened = co_await image::Image::open(loop_, plan_.image_path, options);
    if (opened) {
      image_ = std::move(*opened);
      co_return Result<void>();
    }
    if (!is_about_access(opened.error().code)) co_return std::unexpected(opened.error());
    reason = opened.error().message;
    options.writable = false;
    CO_TRY_LET(image_, co_await image::Image::open(loop_, plan_.image_path, options));
  }
  report(fmt::format("{}: mounted read-only: {}", plan_.image_path, reason));
  co_return Result<void>();
}

Async<void> Mounting::open_layers() {
  if (!plan_.with_layers) co_return Result<void>();
  const std::vector<image::ChainLink>& links = image().links();
  for (size_t depth = 1; depth < links.size(); ++depth) {
    image::OpenOptions options = plan_.open;
    options.format = std::nullopt;
    options.parent_path = std::nullopt;
    if (depth + 1 < links.size()) options.parent_path = links[depth + 1].path;
    CO_TRY_LET(auto layer, co_await image::Image::open(loop_, links[depth].path, options));
    layers_.push_back(std::move(layer));
  }
  co_return Result<void>();
}

// Flushes even where the kernel did not ask for it. What is read of the layers must not be locked
// when an overlay is put into one of them.
Async<void> Mounting::close() {
  files_.reset();
  disks_.clear();
  layers_.clear();
  Result<void> closed;
  if (!is_read_only()) closed = co_await image().disk().close();
  if (!overlay_) co_return closed;
  CO_TRY(std::move(closed));
  co_return co_await overlay_->finish();
}

// --- the folder ---

Result<void> Mounting::list_files() {
  struct stat status;
  if (stat(plan_.image_path.c_str(), &status) != 0) return fail_errno(errno, plan_.image_path);
  const mode_t own_umask = umask(0);
  umask(own_umask);
  const Ownership ownership{.uid = plan_.options.uid.value_or(getuid()),
                            .gid = plan_.options.gid.value_or(getgid()),
                            .umask = plan_.options.umask.value_or(own_umask),
                            .modified = status.st_mtim};
  ByteDisk& disk = disks_.emplace_back(image().disk());
  files_ = std::make_unique<FileSystem>(ownership, disk.size_bytes(),
                                        [this] { return allocated_bytes(image()); });
  files_->add_disk(plan_.name, disk, 0, disk.size_bytes());
  files_->add_text("info.json", tools::json_text(tools::chain_json(image())));
  for (size_t i = 0; i < layers_.size(); ++i) {
    ByteDisk& layer = disks_.emplace_back(layers_[i]->disk());
    files_->add_disk(fmt::format("{}.layer{}", plan_.name, i + 1), layer, 0, layer.size_bytes());
  }
  return {};
}

// With a file system inside, the disk's own folder is nobody's business.
Result<void> Mounting::choose_outer_mount_point() {
  outer_mount_point_ = plan_.mount_point;
  if (!plan_.inner) return {};
  const char* const runtime = std::getenv("XDG_RUNTIME_DIR");
  std::string folder = runtime != nullptr ? runtime : geteuid() == 0 ? "/run" : "/tmp";
  folder += "/vhd-mount-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) return fail_errno(errno, folder);
  // As mountinfo has it.
  std::error_code unknown;
  const auto real = fs::canonical(folder, unknown);
  outer_mount_point_ = unknown ? folder : real.string();
  return {};
}

Result<void> Mounting::mount() {
  SessionOptions options{.mount_point = outer_mount_point_,
                         .options = plan_.options.others,
                         .debug = plan_.options.debug,
                         .one_at_a_time = plan_.one_at_a_time};
  options.options.emplace_back(is_read_only() ? "ro" : "rw");
  options.options.emplace_back("default_permissions");
  if (!says(options.options, "fsname"))
    options.options.push_back("fsname=" + escaped(plan_.image_path));
  if (!says(options.options, "subtype")) options.options.emplace_back("subtype=vhd-mount");
  TRY_LET(session_, Session::mount(loop_, *files_, options));
  // Without files inside, the disk is everybody's from now on.
  if (overlay_ && !plan_.inner) overlay_->begin_use();
  return {};
}

// --- what the helper does through the mount, step by step ---

void Mounting::look_for_partitions() {
  const std::string path = outer_path(plan_.name);
  const uint32_t sector_bytes = disks_.front().sector_bytes();
  const uint64_t disk_bytes = disks_.front().size_bytes();
  const auto job = [this, path, sector_bytes, disk_bytes]() -> Result<void> {
    const Descriptor disk(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!disk.is_open()) return fail_errno(errno, path);
    TRY_LET(found_.partitions, find_partitions(disk.number(), sector_bytes, found_.complaints));
    if (!plan_.inner) return {};
    TRY_LET(found_.inner,
            find_file_system(disk.number(), disk_bytes, found_.partitions, plan_.partition));
    return {};
  };
  helper_->start(job, [this](const Result<void>& done) {
    if (!done) return give_up(done.error());
    show_partitions();
    if (!plan_.inner) return become_usable();
    if (!session_->is_unmounting()) mount_inside();
  });
}

void Mounting::show_partitions() {
  for (const std::string& complaint : found_.complaints)
    report(plan_.image_path + ": " + complaint);
  if (plan_.inner && found_.inner.partition == 0) inner_file_ = 0;
  for (const Partition& one : found_.partitions) {
    const size_t file = files_->add_disk(partition_name(plan_.name, one.number), disks_.front(),
                                         one.disk_offset, one.length);
    if (plan_.inner && one.number == found_.inner.partition) inner_file_ = file;
  }
}

void Mounting::mount_inside() {
  const std::string name =
      found_.inner.partition == 0 ? plan_.name : partition_name(plan_.name, found_.inner.partition);
  const InnerMount inner{.file = outer_path(name),
                         .type = found_.inner.type,
                         .mount_point = plan_.mount_point,
                         .read_only = is_read_only()};
  helper_->start(
      [this, inner]() -> Result<void> {
        TRY(mount_inner(inner));
        const auto mounted = mounted_at(inner.mount_point);
        if (!mounted) return fail(Errc::io, inner.mount_point + ": was unmounted at once");
        session_->set_inner({.mounted = *mounted, .open_count = files_->open_count(*inner_file_)});
        return {};
      },
      [this](const Result<void>& done) {
        if (!done) return give_up(done.error());
        // Whoever unmounts the inner one closes the file, and that ends all of it.
        session_->set_end_condition([this] { return files_->open_count(*inner_file_) == 0; });
        if (overlay_) overlay_->begin_use();
        become_usable();
      });
}

// Who has stopped waiting for it does not want it.
void Mounting::become_usable() {
  if (session_->is_unmounting()) return;
  is_usable_ = background_.done(0);
  if (!is_usable_) session_->unmount(*helper_);
}

void Mounting::give_up(const Error& error) {
  outcome_ = std::unexpected(error);
  session_->unmount(*helper_);
}

}  // namespace vhdkit::fuse
