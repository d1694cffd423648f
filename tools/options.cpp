#include "tools/options.h"

#include <fmt/format.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "image/convert.h"
#include "support/checked.h"
#include "tools/console.h"

namespace vhdkit::tools {
namespace {

constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Takes leading digits off the text. Nothing where they make no 64-bit number.
std::optional<uint64_t> take_number(std::string_view& text) {
  std::optional<uint64_t> number = 0;
  while (!text.empty() && is_digit(text.front())) {
    if (number) number = checked_mul<uint64_t>(*number, 10);
    if (number) number = checked_add<uint64_t>(*number, uint64_t(text.front() - '0'));
    text.remove_prefix(1);
  }
  return number;
}

// Bytes of the unit: "", "B", "K", "KB", "KiB", … of either case. Nothing where it is none.
std::optional<uint64_t> parse_unit(std::string_view text) {
  std::string unit(text);
  std::ranges::transform(unit, unit.begin(),
                         [](char c) { return c >= 'a' && c <= 'z' ? char(c - 'a' + 'A') : c; });
  if (unit.empty() || unit == "B") return 1;
  const size_t power = std::string_view("KMGTPE").find(unit[0]);
  const std::string_view rest = std::string_view(unit).substr(1);
  const bool is_unit = rest.empty() || rest == "B" || rest == "IB";
  if (power == std::string_view::npos || !is_unit) return std::nullopt;
  return uint64_t{1} << (10 * (power + 1));
}

// digits behind the point, in units: nothing where that is no whole number of bytes.
std::optional<uint64_t> fraction_bytes(std::string_view digits, uint64_t unit) {
  const size_t count = digits.size();
  const std::optional<uint64_t> numerator = take_number(digits);
  std::optional<uint64_t> denominator = 1;
  for (size_t i = 0; denominator && i < count; ++i)
    denominator = checked_mul<uint64_t>(*denominator, 10);
  if (!numerator || !denominator) return std::nullopt;
  const std::optional<uint64_t> product = checked_mul(*numerator, unit);
  if (!product || *product % *denominator != 0) return std::nullopt;
  return *product / *denominator;
}

std::unexpected<Error> bad_size(std::string_view text, std::string_view why) {
  return fail(Errc::invalid_argument, fmt::format("\"{}\" {}", text, why));
}

}  // namespace

std::string absolute_path(const std::string& path) {
  std::error_code ignored;
  const auto whole = std::filesystem::absolute(path, ignored);
  return whole.empty() ? path : whole.string();
}

Result<uint64_t> parse_size(std::string_view text) {
  std::string_view rest = text;
  const bool begins_with_digit = !rest.empty() && is_digit(rest.front());
  const std::optional<uint64_t> whole = take_number(rest);
  std::string_view fraction;
  if (rest.starts_with('.')) {
    const size_t end = std::min(rest.find_first_not_of("0123456789", 1), rest.size());
    fraction = rest.substr(1, end - 1);
    rest.remove_prefix(end);
    if (fraction.empty()) return bad_size(text, "has no digits behind the point");
  }
  const std::optional<uint64_t> unit = parse_unit(rest);
  if (!begins_with_digit || !unit)
    return bad_size(text, "is no size; sizes are bytes, or have K, M, G, T, P or E behind them");
  const std::optional<uint64_t> bytes = whole ? checked_mul(*whole, *unit) : std::nullopt;
  if (!bytes) return bad_size(text, "is more than 64 bits of bytes");
  const std::optional<uint64_t> part = fraction_bytes(fraction, *unit);
  if (!part) return bad_size(text, "is no whole number of bytes");
  const std::optional<uint64_t> sum = checked_add(*bytes, *part);
  if (!sum) return bad_size(text, "is more than 64 bits of bytes");
  return *sum;
}

Result<image::SizeChange> parse_size_change(std::string_view text) {
  using Kind = image::SizeChange::Kind;
  image::SizeChange change;
  if (text.starts_with('+')) change.kind = Kind::by_more;
  if (text.starts_with('-')) change.kind = Kind::by_less;
  if (change.kind != Kind::to) text.remove_prefix(1);
  TRY_LET(change.bytes, parse_size(text));
  return change;
}

Result<uint64_t> parse_count(std::string_view text, uint64_t most) {
  std::string_view rest = text;
  const std::optional<uint64_t> count = take_number(rest);
  if (rest.empty() && count && *count != 0 && *count <= most) return *count;
  const std::string range = most == UINT64_MAX ? "on" : fmt::format("to {}", most);
  return fail(Errc::invalid_argument, "a number from 1 " + range + " is wanted");
}

Result<void> check_identifier(const Guid& guid) {
  if (!guid.is_zero()) return {};
  return fail(Errc::invalid_argument, "an identifier of zeroes only identifies nothing");
}

Take size_into(uint64_t& target) {
  return [&target](const std::string& value) -> Result<void> {
    TRY_LET(target, parse_size(value));
    return {};
  };
}

Take format_into(std::optional<image::Format>& target) {
  return [&target](const std::string& value) -> Result<void> {
    target = image::parse_format(value);
    if (target) return {};
    return fail(Errc::invalid_argument,
                fmt::format("\"{}\" is no format known here; there are raw, vhd (or vpc), vhdx and "
                            "qcow2",
                            value));
  };
}

Take profile_into(std::optional<image::Profile>& target) {
  return [&target](const std::string& value) -> Result<void> {
    target = image::parse_profile(value);
    if (target) return {};
    return fail(Errc::invalid_argument,
                fmt::format("\"{}\" is no profile; there are {}", value, image::profile_names()));
  };
}

void declare_mappings(Arguments& arguments, std::vector<image::PathMapping>& mappings) {
  arguments.repeatable_option(
      "--map", "WINDOWS=NATIVE",
      [&mappings](const std::string& value) -> Result<void> {
        TRY_LET(image::PathMapping mapping, image::parse_path_mapping(value));
        mappings.push_back(std::move(mapping));
        return {};
      },
      "Where Windows paths of parents lie here: --map 'C:\\vm=/mnt/vm'. May be given several "
      "times.");
}

void OpenArguments::declare(Arguments& arguments) {
  arguments.option("-f,--format", "FORMAT", format_into(options.format),
                   "The image's format: raw, vhd (or vpc), vhdx, qcow2. Without it the content "
                   "says it, never the name.");
  arguments.option("--parent", "FILE", into(options.parent_path),
                   "The parent of a differencing image, whatever the image says of its place. It "
                   "must still have the identifier that the image names.");
  declare_mappings(arguments, options.path_mappings);
  arguments.flag("--ignore-log", options.ignore_log,
                 "Serve a VHDX as it lies in the file, without replaying its log in memory. What "
                 "it shows may be stale or torn; for forensics.");
  arguments.flag("-U,--force-share", options.force_share,
                 "Read without a lock, also what another process is writing: what is seen then may "
                 "never have been on the disk.");
}

void declare_cache(Arguments& arguments, image::OpenOptions& options) {
  arguments.option(
      "--cache", "MODE",
      [&options](const std::string& value) -> Result<void> {
        options.direct = value == "none";
        if (value == "none" || value == "writeback") return {};
        return fail(Errc::invalid_argument, "the modes are writeback (the default) and none");
      },
      "writeback uses the system's page cache; none goes past it (O_DIRECT) wherever place and "
      "length are aligned as the file system wants it.");
}

bool has_image_options(const image::OpenOptions& options) {
  return options.parent_path || !options.path_mappings.empty() || options.ignore_log;
}

void OutputArguments::declare_with_svg(Arguments& arguments, std::string_view says) {
  arguments.option(
      "--output", "FORM",
      [this](const std::string& value) -> Result<void> {
        json = value == "json";
        svg = value == "svg";
        if (json || svg || value == "human") return {};
        return fail(Errc::invalid_argument,
                    fmt::format("\"{}\" is neither \"human\" nor \"json\" nor \"svg\"", value));
      },
      fmt::format("\"human\" (the default), \"json\", or \"svg\": {}.", says));
}

void OutputArguments::declare(Arguments& arguments) {
  arguments.option(
      "--output", "FORM",
      [this](const std::string& value) -> Result<void> {
        json = value == "json";
        if (json || value == "human") return {};
        return fail(Errc::invalid_argument,
                    fmt::format("\"{}\" is neither \"human\" nor \"json\"", value));
      },
      "\"human\" (the default) or \"json\".");
}

void ProgressArguments::declare(Arguments& arguments) {
  arguments.flag("-p,--progress", wanted,
                 "Show progress on standard error also where that is no terminal. SIGUSR1 asks "
                 "for one line of it.");
  arguments.flag("-q,--quiet", quiet, "Say nothing but errors and what was asked for.");
}

ProgressBar::Style ProgressArguments::style() const {
  if (quiet) return ProgressBar::Style::none;
  if (isatty(STDERR_FILENO) != 0) return ProgressBar::Style::terminal;
  return wanted ? ProgressBar::Style::lines : ProgressBar::Style::none;
}

Result<std::unique_ptr<image::Image>> open_source(async::Loop& loop, const std::string& path,
                                                  const image::OpenOptions& options,
                                                  const ProgressArguments& progress,
                                                  const std::string& spool_folder) {
  if (path != "-") {
    TRY_LET(auto image, loop.run(image::Image::open(loop, path, options)));
    if (!progress.quiet) print_warnings(*image);
    return image;
  }
  if (options.format && *options.format != image::Format::raw)
    return fail(Errc::invalid_argument,
                fmt::format("standard input is read as raw, not as {}; other formats must be files",
                            image::format_name(*options.format)));
  if (has_image_options(options))
    return fail(Errc::invalid_argument,
                "standard input is a raw disk; --parent, --map and --ignore-log belong to images");
  if (isatty(STDIN_FILENO) != 0)
    return fail(Errc::invalid_argument, "standard input is a terminal; a disk should come from it");
  ProgressBar bar = progress.open_ended_bar();
  TRY_LET(auto image, loop.run(image::open_stream(loop, STDIN_FILENO, spool_folder, &bar)));
  bar.finish();
  return image;
}

std::string default_spool_folder() {
  const char* const folder = getenv("TMPDIR");
  return folder != nullptr && *folder != '\0' ? folder : "/var/tmp";
}

void print_warnings(const image::Image& image) {
  for (const std::string& warning : image.warnings()) warn(warning);
}

}  // namespace vhdkit::tools
