#include "hypervisor/runner/undo_disk.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>

#include "async/file.h"
#include "image/durable_names.h"
#include "image/merge.h"
#include "image/snapshot.h"

namespace vhdkit::hypervisor {
namespace {

namespace fs = std::filesystem;

image::OpenOptions reading(image::OpenOptions options) {
  options.writable = false;
  return options;
}

// A link that leads nowhere is no image: what is made under that name is made where it leads.
bool is_there(const std::string& path) {
  struct stat status{};
  return stat(path.c_str(), &status) == 0 || errno != ENOENT;
}

Async<image::Format> format_of(async::Loop& loop, std::string path, image::OpenOptions options) {
  CO_TRY_LET(const auto image, co_await image::Image::open(loop, path, options));
  const image::Format format = image->format();
  if (format != image::Format::vhd && format != image::Format::vhdx)
    co_return fail(
        Errc::unsupported,
        fmt::format("{}: a {} disk has no undo disk; vhd convert makes it a VHDX, or ,ro "
                    "behind it keeps it as it is",
                    path, image::format_name(format)));
  co_return format;
}

// Of who opens a file as the image's child: what only a file gives that is another's child, or
// nobody's. Anything else, such as a child that is damaged or cannot be read, proves nothing.
bool is_no_child(const Error& error) {
  return error.code == Errc::wrong_parent || error.code == Errc::invalid_argument;
}

// Proves that what lies there is the image's child: it names the image's identity. Errors: exists:
// it is none; as Image::open() where that cannot be told.
Async<void> check_left_child(async::Loop& loop, const std::string& child, const std::string& path,
                             const image::OpenOptions& options) {
  const image::OpenOptions child_options = reading(options_for_child(options, path));
  const auto image = co_await image::Image::open(loop, child, child_options);
  if (!image && is_no_child(image.error()))
    co_return fail(Errc::exists,
                   fmt::format("{}: has the name of the undo disk of {}, and is none: "
                               "{}",
                               child, path, image.error().message));
  if (!image)
    co_return fail(image.error().code,
                   fmt::format("{}: may have changes of an earlier run in {}, which cannot be "
                               "opened: {}",
                               path, child, image.error().message));
  if ((*image)->links().size() < 2)
    co_return fail(
        Errc::exists,
        fmt::format("{}: has the name of the undo disk of {}, and has no parent", child, path));
  co_return Result<void>();
}

// False: nothing lies there, or something else.
Async<bool> is_left_child(async::Loop& loop, const std::string& child, const std::string& path,
                          const image::OpenOptions& options) {
  if (!is_there(child)) co_return false;
  const auto checked = co_await check_left_child(loop, child, path, options);
  if (!checked && checked.error().code == Errc::exists) co_return false;
  CO_TRY(checked);
  co_return true;
}

// Nobody who uses it loses it. It must not come back with changes that were discarded.
Result<void> discard(async::Loop& loop, const std::string& child) {
  TRY_LET(const auto locked,
          async::SystemFile::open(loop, child, async::SystemFile::Access::read_write));
  return image::remove_durably(child);
}

Async<void> merge(async::Loop& loop, std::string child, bool dry_run) {
  const image::MergeOptions options{.into = std::nullopt, .dry_run = dry_run};
  const image::OpenOptions open_options;
  auto merged = co_await image::merge(loop, child, options, open_options, nullptr);
  if (!merged) co_return std::unexpected(std::move(merged).error());
  co_return Result<void>();
}

Async<void> merge_away(async::Loop& loop, const std::string& child) {
  // What would be refused leaves its name.
  CO_TRY(co_await merge(loop, child, true));
  const std::string merging = merging_path(child);
  CO_TRY(image::rename_durably(child, merging));
  co_return co_await merge(loop, merging, false);
}

// The merge of an earlier run, which was killed or had no room.
Async<std::string> finish_merge(async::Loop& loop, const std::string& merging,
                                const std::string& path, const image::OpenOptions& options) {
  CO_TRY(co_await check_left_child(loop, merging, path, options));
  const auto merged = co_await merge(loop, merging, false);
  if (!merged)
    co_return fail(merged.error().code,
                   fmt::format("{}: has changes of an earlier run, of which {} has a part; they "
                               "could not be merged: {}",
                               merging, path, merged.error().message));
  co_return fmt::format("{}: the changes of an earlier run, in {}, were merged into it, as begun",
                        path, merging);
}

// What an earlier run has left; the note on it.
Async<std::string> settle_left_child(async::Loop& loop, const std::string& child,
                                     const std::string& path, UndoEnd end) {
  switch (end) {
    case UndoEnd::keep:
      co_return fmt::format("{}: goes on with the changes of an earlier run, in {}", path, child);
    case UndoEnd::merge:
      CO_TRY(co_await merge_away(loop, child));
      co_return fmt::format("{}: the changes of an earlier run, in {}, were merged into it", path,
                            child);
    case UndoEnd::discard:
      CO_TRY(discard(loop, child));
      co_return fmt::format("{}: the changes of an earlier run, in {}, were discarded", path,
                            child);
  }
  __builtin_unreachable();
}

Async<void> make_child(async::Loop& loop, const std::string& child, const std::string& path,
                       const image::OpenOptions& options, UndoEnd end) {
  const image::OpenOptions parent_options = reading(options);
  const image::SnapshotOptions snapshot_options{.child_path = child};
  auto made = co_await image::snapshot(loop, path, snapshot_options, parent_options);
  CO_TRY(std::move(made));
  if (end != UndoEnd::merge) co_return Result<void>();
  // What would be refused at the end is refused now.
  auto can_be_merged = co_await merge(loop, child, true);
  if (!can_be_merged) (void)discard(loop, child);
  co_return can_be_merged;
}

}  // namespace

image::OpenOptions options_for_child(image::OpenOptions options,
                                     std::optional<std::string> parent) {
  options.format = std::nullopt;
  options.parent_path = std::move(parent);
  return options;
}

std::optional<UndoEnd> parse_undo_end(std::string_view word) {
  if (word == "keep") return UndoEnd::keep;
  if (word == "merge") return UndoEnd::merge;
  if (word == "discard") return UndoEnd::discard;
  return std::nullopt;
}

std::string merging_path(const std::string& child) {
  fs::path path(child);
  const std::string extension = path.extension();
  return path.replace_extension(".merging" + extension);
}

std::string undo_path(const std::string& path, image::Format format) {
  std::error_code ignored;
  const bool is_link = fs::is_symlink(path, ignored);
  const fs::path real = is_link ? fs::weakly_canonical(path, ignored) : fs::path(path);
  return (real.empty() ? path : real.string()) +
         (format == image::Format::vhd ? ".undo.avhd" : ".undo.avhdx");
}

Async<void> check_is_whole(async::Loop& loop, const std::string& path,
                           const image::OpenOptions& options) {
  for (const image::Format format : {image::Format::vhdx, image::Format::vhd}) {
    const std::string merging = merging_path(undo_path(path, format));
    CO_TRY_LET(const bool has_begun, co_await is_left_child(loop, merging, path, options));
    if (has_begun)
      co_return fail(Errc::busy, fmt::format("{}: has a part of the changes in {}; --undo, or vhd "
                                             "merge, puts the others into it",
                                             path, merging));
  }
  if (!options.writable) co_return Result<void>();
  // A VHD's identity stays when it is written: its old child would pass for one later, too.
  const std::string child = undo_path(path, image::Format::vhd);
  CO_TRY_LET(const bool is_left, co_await is_left_child(loop, child, path, options));
  if (is_left)
    co_return fail(Errc::busy,
                   fmt::format("{}: has changes of an earlier run in {}, which no longer fit once "
                               "it is written; --undo merge, keep or discard says what becomes of "
                               "them",
                               path, child));
  co_return Result<void>();
}

Async<void> check_undo(async::Loop& loop, const std::string& path,
                       const image::OpenOptions& options, UndoEnd end) {
  const image::OpenOptions read_options = reading(options);
  CO_TRY_LET(const image::Format format, co_await format_of(loop, path, read_options));
  const std::string child = undo_path(path, format);
  const std::string merging = merging_path(child);
  if (is_there(merging)) {
    CO_TRY(co_await check_left_child(loop, merging, path, options));
    co_return co_await merge(loop, merging, true);
  }
  if (!is_there(child)) co_return Result<void>();
  CO_TRY(co_await check_left_child(loop, child, path, options));
  if (end != UndoEnd::merge) co_return Result<void>();
  co_return co_await merge(loop, child, true);
}

Async<UndoDisk> begin_undo(async::Loop& loop, const std::string& path,
                           const image::OpenOptions& options, UndoEnd end) {
  const image::OpenOptions read_options = reading(options);
  CO_TRY_LET(const image::Format format, co_await format_of(loop, path, read_options));
  UndoDisk undo{.path = undo_path(path, format), .is_new = true, .notes = {}};
  const std::string merging = merging_path(undo.path);
  if (is_there(merging)) {
    CO_TRY_LET(std::string note, co_await finish_merge(loop, merging, path, options));
    undo.notes.push_back(std::move(note));
  }
  if (is_there(undo.path)) {
    CO_TRY(co_await check_left_child(loop, undo.path, path, options));
    CO_TRY_LET(std::string note, co_await settle_left_child(loop, undo.path, path, end));
    undo.notes.push_back(std::move(note));
    undo.is_new = end != UndoEnd::keep;
  }
  if (undo.is_new) CO_TRY(co_await make_child(loop, undo.path, path, options, end));
  co_return std::move(undo);
}

Async<std::unique_ptr<image::Image>> open_undo(async::Loop& loop, const UndoDisk& undo,
                                               const std::string& path,
                                               const image::OpenOptions& options) {
  const image::OpenOptions child_options = options_for_child(options, path);
  co_return co_await image::Image::open(loop, undo.path, child_options);
}

Async<void> finish_undo(async::Loop& loop, const std::string& child, UndoEnd end) {
  Result<void> finished;
  if (end == UndoEnd::discard) finished = discard(loop, child);
  if (end == UndoEnd::merge) finished = co_await merge_away(loop, child);
  if (finished) co_return finished;
  const std::string merging = merging_path(child);
  co_return fail(
      finished.error().code,
      fmt::format("{}: the changes of this run stay there, since they could not be {}; "
                  "vhd merge puts them into the disk: {}",
                  is_there(merging) ? merging : child,
                  end == UndoEnd::merge ? "merged" : "discarded", finished.error().message));
}

}  // namespace vhdkit::hypervisor
