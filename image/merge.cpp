#include "image/merge.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "image/compare.h"
#include "image/create.h"
#include "image/durable_names.h"
#include "image/known_children.h"
#include "image/parent_edit.h"
#include "image/parent_search.h"
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

// An image from the child to the target, and whoever names it as the parent beside the chain's own.
struct Member {
  std::string path;
  std::optional<Guid> identity;
  uint64_t size_bytes;  // of its disk; the target's is changed under way, so 0 here
  std::vector<std::string> other_children;
  bool operator==(const Member&) const = default;
};
using Family = std::vector<Member>;  // child first

Async<Family> family_of(async::Loop& loop, Image& chain, size_t target) {
  Family family;
  for (size_t depth = 0; depth <= target && depth < chain.disk().layer_count(); ++depth) {
    disk::Layer& layer = chain.disk().layer(uint32_t(depth));
    Member member{.path = chain.links()[depth].path,
                  .identity = layer.identity(),
                  .size_bytes = depth < target ? layer.geometry().size_bytes : 0,
                  .other_children = {}};
    CO_TRY_LET(member.other_children, co_await other_children(loop, chain, depth));
    family.push_back(std::move(member));
  }
  co_return std::move(family);
}

// Only these say by an identity which image is whose child.
Result<void> check_formats(Image& chain, size_t target) {
  if (chain.format() != Format::vhd && chain.format() != Format::vhdx)
    return fail(Errc::unsupported,
                fmt::format("{}: only vhd and vhdx images are merged, this is {}; vhd convert "
                            "makes one disk of it and its parents",
                            chain.path(), format_name(chain.format())));
  for (size_t depth = 1; depth <= target; ++depth) {
    const ChainLink& link = chain.links()[depth];
    if (link.format != chain.format())
      return fail(
          Errc::unsupported,
          fmt::format("{}: is {}, and {} is {}: only images of one format are merged", link.path,
                      format_name(*link.format), chain.path(), format_name(chain.format())));
  }
  return {};
}

// By the format that it has in the chain: the content may put another one's header to a fixed VHD's
// head. And with the parent that it has there, which only the caller may have known.
OpenOptions options_for_target(Image& chain, size_t target, const OpenOptions& open_options) {
  OpenOptions options{.format = chain.links()[target].format,
                      .path_mappings = open_options.path_mappings};
  if (target + 1 < chain.links().size()) options.parent_path = chain.links()[target + 1].path;
  return options;
}

// A locator's value has room for more than twice as many.
constexpr size_t max_images_told = 256;

// The images between, with those that a merge has left which was broken off: the child says of them
// that they were merged, for when the merge is called again and they are between no more.
std::vector<Guid> merged_images(Image& chain, size_t target) {
  if (chain.format() != Format::vhdx) return {};
  std::vector<Guid> merged = chain.disk().layer(uint32_t(target) - 1).parent()->merged;
  for (size_t depth = target; --depth > 0;)
    merged.push_back(*chain.disk().layer(uint32_t(depth)).identity());
  merged.resize(std::min(merged.size(), max_images_told));
  return merged;
}

Async<std::unique_ptr<Image>> open_alone(async::Loop& loop, std::string path) {
  OpenOptions options;
  options.open_parents = false;
  options.force_share = true;
  co_return co_await Image::open(loop, path, options);
}

// Whether the image is one of these, and whoever has it as a parent is one of the others.
Async<bool> is_one_of(async::Loop& loop, std::string path, std::vector<Guid> merged) {
  CO_TRY_LET(const auto image, co_await open_alone(loop, path));
  const disk::Layer& layer = image->disk().layer(0);
  const auto identity = layer.identity();
  if (!identity || std::erase(merged, *identity) == 0) co_return false;
  CO_TRY_LET(const std::vector<std::string> children, co_await known_children(loop, path, layer));
  for (const std::string& child : children) {
    CO_TRY_LET(const bool is_too, co_await is_one_of(loop, child, merged));
    if (!is_too) co_return false;
  }
  co_return true;
}

// Whether a merge that was broken off has put all of it into the target already, so that another
// image that has it as a parent loses nothing: one of the child's own children, which was given it;
// or one that was between, which nobody wrote to since: that would have changed its identity. A
// child that somebody gave one of these since then is neither, and would be lost.
Async<bool> is_merged_vhdx(async::Loop& loop, Image& chain, size_t target, std::string other) {
  CO_TRY_LET(const auto image, co_await open_alone(loop, other));
  const disk::ParentReference* const reference = image->disk().layer(0).parent();
  // No other parent has the child's identity.
  if (reference != nullptr && names(*reference, chain.disk().layer(0).identity())) co_return true;
  const disk::ParentReference& own = *chain.disk().layer(uint32_t(target) - 1).parent();
  co_return co_await is_one_of(loop, other, own.merged);
}

// A VHD names one identifier only, so these cannot be told from one that was always the target's.
Async<bool> is_merged_vhd(async::Loop& loop, Image& chain, size_t target,
                          const OpenOptions& open_options) {
  const OpenOptions options = options_for_target(chain, target, open_options);
  CO_TRY_LET(const auto image, co_await Image::open(loop, chain.links()[target].path, options));
  CO_TRY_LET(const Comparison comparison, co_await compare(chain, *image, true, nullptr));
  co_return comparison.same;
}

// Nobody else may depend on the images between the child and the target.
Async<void> check_bystanders(async::Loop& loop, Image& chain, const Family& family,
                             const std::vector<std::string>& moving,
                             const OpenOptions& open_options) {
  const size_t target = family.size() - 1;
  for (size_t depth = 1; depth <= target; ++depth) {
    std::vector<std::string> others = family[depth].other_children;
    std::erase_if(others, [&moving](const std::string& one) {
      return std::ranges::any_of(
          moving, [&one](const std::string& moved) { return is_same_file(moved, one); });
    });
    if (others.empty()) continue;
    bool is_done = false;
    if (depth == target && chain.format() == Format::vhd) {
      CO_TRY_LET(is_done, co_await is_merged_vhd(loop, chain, target, open_options));
    }
    for (const std::string& other : others) {
      if (depth == target && chain.format() == Format::vhdx) {
        CO_TRY_LET(is_done, co_await is_merged_vhdx(loop, chain, target, other));
      }
      if (!is_done)
        co_return fail(Errc::invalid_argument,
                       fmt::format("{}: is the parent of {}, which would be lost; merge or move "
                                   "that one first",
                                   family[depth].path, other));
    }
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

// [MS-VHDX] 2.6.1.2: what a VHDX says of its virtual disk; a VHD says nothing that could differ.
struct OfDisk {
  std::optional<Guid> disk_id;
  uint32_t physical_sector_bytes = 0;
  bool operator==(const OfDisk&) const = default;
};

OfDisk of_disk(Image& image) {
  if (image.format() != Format::vhdx) return {};
  const disk::Layer& layer = image.disk().layer(0);
  return {.disk_id = Guid::parse(layer.describe().text("disk-id")),
          .physical_sector_bytes = layer.geometry().physical_sector_bytes};
}

struct Plan {
  size_t target = 0;  // its depth
  Guid child_identity;
  std::vector<Guid> merged;  // VHDX: what the child says of others that are merged with it
  OfDisk of_disk;            // of the child's
  Family family;
  Fitting fitting{};
  // Whether the child itself is given the target as its parent before it is removed: there are
  // others between, or it gets the target's new identity.
  bool child_is_edited = false;
  OpenOptions target_options;
  MergeReport report;
};

// Whether whoever is to name the target as the parent can do so.
Async<void> check_names(async::Loop& loop, const Plan& plan) {
  OpenOptions alone = plan.target_options;
  alone.open_parents = false;
  CO_TRY_LET(const auto target, co_await Image::open(loop, plan.report.into, alone));
  std::vector<std::string> paths = plan.report.moved;
  if (plan.child_is_edited) paths.push_back(plan.report.merged.front());
  const CreateOptions no_windows_path;
  for (const std::string& path : paths) {
    CO_TRY(describe_parent(*target, path, no_windows_path));
  }
  co_return Result<void>();
}

// What must hold before anything is changed, and what there is to do.
Async<Plan> make_plan(async::Loop& loop, Image& chain, const MergeOptions& options,
                      const OpenOptions& open_options) {
  Plan plan;
  CO_TRY_LET(plan.target, find_target(chain, options));
  CO_TRY(check_formats(chain, plan.target));
  CO_TRY_LET(plan.family, co_await family_of(loop, chain, plan.target));
  plan.child_identity = *plan.family.front().identity;
  plan.merged = merged_images(chain, plan.target);
  plan.of_disk = of_disk(chain);
  plan.fitting = fitting_of(chain, plan.target);
  plan.target_options = options_for_target(chain, plan.target, open_options);
  MergeReport& report = plan.report;
  report.size = {.old_bytes = plan.fitting.old_bytes, .new_bytes = plan.fitting.size.size_bytes};
  report.into = plan.family.back().path;
  for (size_t depth = 0; depth < plan.target; ++depth)
    report.merged.push_back(plan.family[depth].path);
  if (!options.keep_files) {
    plan.child_is_edited = plan.target > 1 || chain.format() == Format::vhdx;
    report.moved = plan.family.front().other_children;
    CO_TRY(co_await check_names(loop, plan));
  }
  CO_TRY(co_await check_bystanders(loop, chain, plan.family, report.moved, open_options));
  CO_TRY(co_await chain.disk().audit());
  CO_TRY(co_await check_fitting(chain, plan.target, plan.fitting));
  CO_TRY_LET(report.amount, co_await measure_merge(chain.disk(), plan.target));
  co_return std::move(plan);
}

// Until there were locks, others could give an image another child, or write to one.
Async<void> check_unchanged(async::Loop& loop, const Plan& plan, const OpenOptions& open_options) {
  OpenOptions unlocked = open_options;
  unlocked.force_share = true;
  const std::string& path = plan.report.merged.front();
  CO_TRY_LET(const auto chain, co_await Image::open(loop, path, unlocked));
  CO_TRY_LET(const Family family, co_await family_of(loop, *chain, plan.target));
  if (family == plan.family) co_return Result<void>();
  co_return fail(Errc::busy, path +
                                 ": an image of the chain was changed, or got another child, just "
                                 "when the merge began; begin it again");
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

Async<void> make_fit_for_edits(const Plan& plan, const Locked& merged, const Locked& moving) {
  const Format format = plan.fitting.format;
  if (plan.child_is_edited) {
    CO_TRY(co_await make_fit_for_edit(*merged.front(), format));
  }
  for (const auto& file : moving) {
    CO_TRY(co_await make_fit_for_edit(*file, format));
  }
  co_return Result<void>();
}

// The images above the target are no longer needed: it has their content. The child's identity
// becomes the target's, since the content is the same; so children that nobody knew of can be given
// their new parent, and those of the target, which nobody knew of either, find out.
//
// Whatever of the child is left shows its disk and has the target as its parent, so the merge can
// be called again; that is why the child goes last. Whatever else is left does not open, as soon as
// that can be: it would hide newer content.
class Succession {
 public:
  // merged, moving: the files of the images that the plan's report names, in its order.
  Succession(Image& target, const Plan& plan, const Locked& merged, const Locked& moving)
      : target_(target),
        own_(*target.disk().layer(0).identity()),
        childs_(plan.child_identity),
        plan_(plan),
        child_(*merged.front()),
        moving_(moving) {}

  Async<void> run() {
    if (target_.format() == Format::vhdx) co_return co_await run_vhdx();
    co_return co_await run_vhd();
  }

 private:
  // For a while the target has the one identity, then the other.
  Async<void> run_vhdx() {
    const UnfinishedMerge of_heirs{.other_identity = own_};
    CO_TRY(co_await move_children(childs_, of_heirs));
    const UnfinishedMerge of_child{.other_identity = childs_, .merged = plan_.merged};
    CO_TRY(co_await name_target(child_, child_path(), own_, of_child));
    CO_TRY(co_await vhdx::set_data_write_guid(target_.disk().layer(0).file(), childs_));
    CO_TRY(remove_images_between());
    const UnfinishedMerge none;
    CO_TRY(co_await move_children(childs_, none));
    co_return remove_durably(child_path());
  }

  Async<void> run_vhd() {
    const UnfinishedMerge none;
    CO_TRY(co_await move_children(own_, none));
    if (plan_.child_is_edited) {
      CO_TRY(co_await name_target(child_, child_path(), own_, none));
    }
    CO_TRY(remove_images_between());
    co_return remove_durably(child_path());
  }

  Async<void> move_children(Guid identity, UnfinishedMerge merge) {
    for (size_t i = 0; i < moving_.size(); ++i) {
      const std::string& path = plan_.report.moved[i];
      CO_TRY(co_await name_target(*moving_[i], path, identity, merge));
    }
    co_return Result<void>();
  }

  Async<void> name_target(File& file, const std::string& path, Guid identity,
                          UnfinishedMerge merge) {
    const CreateOptions no_windows_path;
    CO_TRY_LET(ParentForCreation parent, describe_parent(target_, path, no_windows_path));
    parent.identity = identity;
    if (merge.other_identity == identity) merge.other_identity.reset();
    co_return co_await write_parent(file, parent, merge);
  }

  // From below, so that the others have no parent.
  Result<void> remove_images_between() {
    for (size_t depth = plan_.target - 1; depth > 0; --depth)
      TRY(remove_durably(plan_.family[depth].path));
    return {};
  }

  const std::string& child_path() const { return plan_.report.merged.front(); }

  Image& target_;
  Guid own_;     // the target's identity as it was
  Guid childs_;  // the child's
  const Plan& plan_;
  File& child_;
  const Locked& moving_;
};

// For writing, when everything else is locked.
Async<std::unique_ptr<Image>> open_target(async::Loop& loop, const Plan& plan,
                                          const OpenOptions& open_options) {
  OpenOptions options = plan.target_options;
  options.writable = true;
  options.keep_identity = true;
  CO_TRY_LET(auto target, co_await Image::open(loop, plan.report.into, options));
  CO_TRY(co_await check_unchanged(loop, plan, open_options));
  co_return std::move(target);
}

// The child shows zeroes there, as the target does then.
Async<void> grow_target(async::Loop& loop, const Plan& plan, const OpenOptions& open_options) {
  {
    CO_TRY_LET(const Locked target, lock(loop, {plan.report.into}));
    CO_TRY(co_await check_unchanged(loop, plan, open_options));
  }
  co_return co_await plan.fitting.run(loop, plan.report.into);
}

// REQUIRES: the files above the target are locked by us, so they are read without locks.
Async<void> put_content(async::Loop& loop, const Plan& plan, Image& target,
                        const OpenOptions& open_options, Progress* progress) {
  OpenOptions source_options = open_options;
  source_options.force_share = true;
  const std::string& path = plan.report.merged.front();
  CO_TRY_LET(const auto source, co_await Image::open(loop, path, source_options));
  auto copied = co_await merge_content(source->disk(), plan.target, target.disk(),
                                       plan.report.amount, progress);
  auto closed = co_await target.disk().close();
  CO_TRY(std::move(copied));
  co_return closed;
}

// It has the child's content now.
Async<void> put_metadata(const Plan& plan, Image& target) {
  if (of_disk(target) == plan.of_disk) co_return Result<void>();
  vhdx::MetadataChange change;
  change.disk_id = plan.of_disk.disk_id;
  change.physical_sector_bytes = plan.of_disk.physical_sector_bytes;
  co_return co_await vhdx::change_metadata(target.disk().layer(0).file(), change);
}

}  // namespace

Async<MergeReport> merge(async::Loop& loop, const std::string& child_path,
                         const MergeOptions& options, const OpenOptions& open_options,
                         Progress* progress) {
  Plan plan;
  {
    CO_TRY_LET(const auto chain, co_await Image::open(loop, child_path, open_options));
    CO_TRY_LET(plan, co_await make_plan(loop, *chain, options, open_options));
  }
  if (options.dry_run) co_return std::move(plan.report);

  CO_TRY_LET(const Locked merged, lock(loop, plan.report.merged));
  CO_TRY_LET(const Locked moving, lock(loop, plan.report.moved));
  if (plan.fitting.grows()) {
    CO_TRY(co_await grow_target(loop, plan, open_options));
  }
  CO_TRY_LET(auto target, co_await open_target(loop, plan, open_options));
  CO_TRY(co_await make_fit_for_edits(plan, merged, moving));
  CO_TRY(co_await put_content(loop, plan, *target, open_options, progress));
  if (plan.fitting.shrinks()) {
    target.reset();
    CO_TRY(co_await plan.fitting.run(loop, plan.report.into));
    CO_TRY_LET(target, co_await open_target(loop, plan, open_options));
  }
  CO_TRY(co_await put_metadata(plan, *target));
  if (options.keep_files) co_return std::move(plan.report);
  Succession succession(*target, plan, merged, moving);
  CO_TRY(co_await succession.run());
  co_return std::move(plan.report);
}

}  // namespace vhdkit::image
