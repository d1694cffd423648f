// Arguments that several verbs share.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "image/image.h"
#include "image/profile.h"
#include "image/resize.h"
#include "tools/arguments.h"
#include "tools/progress_bar.h"

namespace vhdkit::tools {

// Bytes: "4096", "10G", "1.5GiB", "20GB". K M G T P E, of either case, count in powers of 1024,
// whatever stands behind them (GB is GiB). Errors: invalid_argument.
Result<uint64_t> parse_size(std::string_view text);

// As vhd resize takes it: a size, or by how much a disk gets larger or smaller: "+1G", "-512M".
// Errors: invalid_argument.
Result<image::SizeChange> parse_size_change(std::string_view text);

// A number of things, from 1 on: "12". Errors: invalid_argument, also where it is more than most.
Result<uint64_t> parse_count(std::string_view text, uint64_t most = UINT64_MAX);

// The path from the root on, for programs that have a folder of their own; links stay.
std::string absolute_path(const std::string& path);

// Whether it may identify a disk or its content. Errors: invalid_argument: it is zero.
Result<void> check_identifier(const Guid& guid);

Take size_into(uint64_t& target);
Take format_into(std::optional<image::Format>& target);
Take profile_into(std::optional<image::Profile>& target);

// --map, as often as wanted.
void declare_mappings(Arguments& arguments, std::vector<image::PathMapping>& mappings);

// --cache none|writeback
void declare_cache(Arguments& arguments, image::OpenOptions& options);

// How an image is opened for reading: -f, --parent, --map, --ignore-log, -U.
struct OpenArguments {
  image::OpenOptions options;
  void declare(Arguments& arguments);
};

// Whether anything was said that only an image in a file can have, its format aside.
bool has_image_options(const image::OpenOptions& options);

// --output=human|json, and, where there is a picture, svg
struct OutputArguments {
  bool json = false;
  bool svg = false;
  void declare(Arguments& arguments);
  // says: when there is a picture, and of what: "a picture of the disk".
  void declare_with_svg(Arguments& arguments, std::string_view says);
};

// -p and -q of work that takes long.
struct ProgressArguments {
  bool wanted = false;
  bool quiet = false;
  void declare(Arguments& arguments);
  // Whether there is somebody to look at it: a terminal, or -p.
  bool shows() const { return style() != ProgressBar::Style::none; }
  ProgressBar bar() const { return ProgressBar(style(), true); }
  // For work whose end nobody knows.
  ProgressBar open_ended_bar() const { return ProgressBar(style(), false); }

 private:
  ProgressBar::Style style() const;
};

// An image that may be standard input: "-" is spooled into a file without a name in spool_folder.
// Its warnings are printed unless quiet. Errors: as image::Image::open() and image::open_stream();
// invalid_argument where standard input is said to be anything but raw, or is a terminal.
Result<std::unique_ptr<image::Image>> open_source(async::Loop& loop, const std::string& path,
                                                  const image::OpenOptions& options,
                                                  const ProgressArguments& progress,
                                                  const std::string& spool_folder);
// TMPDIR, else /var/tmp: what is spooled may be large.
std::string default_spool_folder();

void print_warnings(const image::Image& image);

}  // namespace vhdkit::tools
