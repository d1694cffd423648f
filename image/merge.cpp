#include "image/merge.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "image/compare.h"
#include "image/create.h"
#include "image/durable_names.h"
#include "image/known_children.h"
#include "image/parent_edit.h"
#include "vhdx/edit.h"

namespace vhdkit::image {
namespace {

namespace fs = std::filesystem;

bool is_same_file(const std::string& a, const std::string& b) {
  std::error_code ignored;
  return fs::equivalent(a, b, ignored);
}

// Which image of the chain gets the content.
Result<size_t> find_target(const Image& chain, const MergeOptions& options) {
  if (chain.links().size() < 2)
    return fail(Errc::invalid_argument, chain.path() + ": has no parent to merge into");
  if (!options.into) return 1;
  for (size_t depth = 1; depth < chain.links().size(); ++depth)
    if (is_same_file(chain.links()[depth].path, *options.into)) return depth;
  return fail(Errc::invalid_argument,
              fmt::format("{}: is not among the parents of {}", *options.into, chain.path()));
}

// The images that name the one at this depth as their parent, beside the chain's own.
Async<std::vector<std::string>> other_children(async::Loop& loop, Image& chain, size_t depth) {
  const std::string& path = chain.links()[depth].path;
  CO_TRY_LET(std::vector<std::string> children,
             co_await known_children(loop, path, chain.disk().layer(uint32_t(depth))));
  if (depth > 0) {
    const std::string& own = chain.links()[depth - 1].path;
    std::erase_if(children, [&own](const std::string& one) { return is_same_file(one, own); });
  }
  co_return std::move(children);
}

// A VHD names one identifier only, so a child that an interrupted merge has moved cannot be told
// from one that was always the target's; but neither loses anything where there is nothing to do.
Async<bool> is_merged(async::Loop& loop, Image& chain, size_t target) {
  if (chain.format() != Format::vhd) co_return false;
  const OpenOptions options;
  CO_TRY_LET(const auto image, co_await Image::open(loop, chain.links()[target].path, options));
  CO_TRY_LET(const Comparison comparison, co_await compare(chain, *image, true, nullptr));
  co_return comparison.same;
}

// Nobody else may depend on the images between the child and the target.
Async<void> check_bystanders(async::Loop& loop, Image& chain, size_t target,
                             const std::vector<std::string>& moving) {
  for (size_t depth = 1; depth <= target; ++depth) {
    CO_TRY_LET(std::vector<std::string> others, co_await other_children(loop, chain, depth));
    std::erase_if(others, [&moving](const std::string& one) {
      return std::ranges::find(moving, one) != moving.end();
    });
    if (others.empty()) continue;
    bool is_done = false;
    if (depth == target) {
      CO_TRY_LET(is_done, co_await is_merged(loop, chain, target));
    }
    if (!is_done)
      co_return fail(Errc::invalid_argument,
                     fmt::format("{}: is the parent of {}, which would be lost; merge or move that "
                                 "one first",
                                 chain.links()[depth].path, others.front()));
  }
  co_return Result<void>();
}

// Gives the target the child's size.
struct Fitting {
  Format format;
  bool is_fixed_vhd;
  uint64_t old_bytes;
  NewSize size;

  bool grows() const { return size.size_bytes > old_bytes; }
  bool shrinks() const { return size.size_bytes < old_bytes; }
  Async<void> run(async::Loop& loop, const std::string& path) const {
    co_return co_await resize_file(loop, path, format, is_fixed_vhd, size, nullptr);
  }
};

Fitting fitting_of(Image& chain, size_t target) {
  disk::LayeredDisk& disk = chain.disk();
  const disk::Layer& layer = disk.layer(uint32_t(target));
  const Format format = *chain.links()[target].format;
  Fitting fitting{.format = format,
                  .is_fixed_vhd = is_fixed_vhd(format, layer),
                  .old_bytes = layer.geometry().size_bytes,
                  .size = size_for(disk, target, disk.geometry().size_bytes)};
  fitting.size.keep_identity = true;
  return fitting;
}

Async<void> check_fitting(Image& chain, size_t target, const Fitting& fitting) {
  if (!fitting.grows() && !fitting.shrinks()) co_return Result<void>();
  disk::Layer& layer = chain.disk().layer(uint32_t(target));
  const std::string& path = chain.links()[target].path;
  co_return co_await check_resize(path, fitting.format, layer, fitting.size);
}

// What must hold before anything is changed, and what there is to do.
Async<MergeReport> prepare(async::Loop& loop, Image& chain, size_t target, const Fitting& fitting,
                           bool keep_files) {
  MergeReport report;
  report.size = {.old_bytes = fitting.old_bytes, .new_bytes = fitting.size.size_bytes};
  if (!keep_files) {
    CO_TRY_LET(report.moved, co_await other_children(loop, chain, 0));
  }
  CO_TRY(co_await check_bystanders(loop, chain, target, report.moved));
  CO_TRY(co_await chain.disk().audit());
  CO_TRY(co_await check_fitting(chain, target, fitting));
  report.into = chain.links()[target].path;
  for (size_t depth = 0; depth < target; ++depth)
    report.merged.push_back(chain.links()[depth].path);
  CO_TRY_LET(report.amount, co_await measure_merge(chain.disk(), target));
  co_return std::move(report);
}

// Files that nobody else opens until the merge has ended.
using Locked = std::vector<std::unique_ptr<async::SystemFile>>;

Result<Locked> lock(async::Loop& loop, const std::vector<std::string>& paths) {
  Locked files;
  for (const std::string& path : paths) {
    TRY_LET(auto file, async::SystemFile::open(loop, path, async::SystemFile::Access::read_write));
    files.push_back(std::move(file));
  }
  return files;
}

Async<Locked> open_for_edit(async::Loop& loop, const std::vector<std::string>& paths,
                            Format format) {
  Locked files;
  for (const std::string& path : paths) {
    CO_TRY_LET(auto file, co_await open_for_edit(loop, path, format));
    files.push_back(std::move(file));
  }
  co_return std::move(files);
}

// The images above the target are no longer needed: their children become the target's. The child's
// identity becomes the target's, since the content is the same; so children that nobody knew of
// can be given their new parent, and those of the target, which nobody knew of either, find out.
class Succession {
 public:
  Succession(Image& target, const Guid& child_identity, const MergeReport& report,
             const Locked& moving)
      : target_(target), child_identity_(child_identity), report_(report), moving_(moving) {}

  Async<void> run() {
    const bool is_vhdx = target_.format() == Format::vhdx;
    const Guid own = *target_.disk().layer(0).identity();
    // For a while the target has the one identity, then the other.
    auto named = is_vhdx ? name_target(child_identity_, own) : name_target(own, std::nullopt);
    CO_TRY(co_await std::move(named));
    // Whoever is left must not hide newer content.
    for (const std::string& path : report_.merged) CO_TRY(remove_durably(path));
    if (!is_vhdx) co_return Result<void>();
    CO_TRY(co_await vhdx::set_data_write_guid(target_.disk().layer(0).file(), child_identity_));
    co_return co_await name_target(child_identity_, std::nullopt);
  }

 private:
  Async<void> name_target(Guid identity, std::optional<Guid> other_identity) {
    for (size_t i = 0; i < moving_.size(); ++i) {
      const CreateOptions no_windows_path;
      CO_TRY_LET(ParentForCreation parent,
                 describe_parent(target_, report_.moved[i], no_windows_path));
      parent.identity = identity;
      CO_TRY(co_await write_parent(*moving_[i], parent, other_identity));
    }
    co_return Result<void>();
  }

  Image& target_;
  Guid child_identity_;
  const MergeReport& report_;
  const Locked& moving_;
};

// By the format that it has in the chain: the content may put another one's header to a fixed VHD's
// head.
Async<std::unique_ptr<Image>> open_target(async::Loop& loop, const std::string& path, Format format,
                                          const OpenOptions& open_options) {
  OpenOptions options{
      .format = format, .path_mappings = open_options.path_mappings, .writable = true};
  options.keep_identity = true;
  co_return co_await Image::open(loop, path, options);
}

// REQUIRES: the files above the target are locked by us, so they are read without locks.
Async<void> put_content(async::Loop& loop, const std::string& child_path, size_t target_depth,
                        Image& target, const MergeAmount& amount, const OpenOptions& open_options,
                        Progress* progress) {
  OpenOptions source_options = open_options;
  source_options.force_share = true;
  CO_TRY_LET(const auto source, co_await Image::open(loop, child_path, source_options));
  auto copied =
      co_await merge_content(source->disk(), target_depth, target.disk(), amount, progress);
  auto closed = co_await target.disk().close();
  CO_TRY(std::move(copied));
  co_return closed;
}

}  // namespace

Async<MergeReport> merge(async::Loop& loop, const std::string& child_path,
                         const MergeOptions& options, const OpenOptions& open_options,
                         Progress* progress) {
  MergeReport report;
  size_t target_depth = 0;
  Guid child_identity;
  std::optional<Fitting> fitting;
  {
    CO_TRY_LET(const auto chain, co_await Image::open(loop, child_path, open_options));
    CO_TRY_LET(target_depth, find_target(*chain, options));
    fitting = fitting_of(*chain, target_depth);
    CO_TRY_LET(report, co_await prepare(loop, *chain, target_depth, *fitting, options.keep_files));
    child_identity = chain->disk().layer(0).identity().value_or(Guid());
  }
  if (options.dry_run) co_return std::move(report);

  CO_TRY_LET(const Locked merged, lock(loop, report.merged));
  // The child shows zeroes there, as the target does then.
  if (fitting->grows()) CO_TRY(co_await fitting->run(loop, report.into));
  CO_TRY_LET(auto target, co_await open_target(loop, report.into, fitting->format, open_options));
  CO_TRY_LET(const Locked moving, co_await open_for_edit(loop, report.moved, target->format()));
  CO_TRY(co_await put_content(loop, child_path, target_depth, *target, report.amount, open_options,
                              progress));
  if (fitting->shrinks()) {
    target.reset();
    CO_TRY(co_await fitting->run(loop, report.into));
    CO_TRY_LET(target, co_await open_target(loop, report.into, fitting->format, open_options));
  }
  if (options.keep_files) co_return std::move(report);
  Succession succession(*target, child_identity, report, moving);
  CO_TRY(co_await succession.run());
  co_return std::move(report);
}

}  // namespace vhdkit::image
