#include "image/convert.h"

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>

#include "tools/console.h"
#include "tools/options.h"
#include "tools/signals.h"
#include "tools/target_options.h"
#include "tools/text.h"
#include "tools/verb.h"

namespace vhdkit::tools {
namespace {

constexpr Example examples[] = {
    {"A qcow2 into a VHDX for Hyper-V", "vhd convert -O vhdx disk.qcow2 disk.vhdx"},
    {"Into the fixed VHD that Azure wants, from anything",
     "vhd convert -O vhd --profile azure disk.vhdx disk.vhd"},
    {"A checkpoint and its parents into one raw disk", "vhd convert -O raw vm.avhdx disk.raw"},
    {"From a pipe, and into one",
     "zcat disk.raw.gz | vhd convert -O vhd - - | ssh host 'cat > disk.vhd'"},
};
constexpr ExitCode exit_codes[] = {
    {0, "the new image is there, whole and on the disk"},
    {1, "there is none, and what lay under its name is as it was"},
};
constexpr Page convert_page = {
    .summary = "copies a disk into a new image of another format",
    .synopsis = "[-f FORMAT] -O FORMAT [-o KEY=VALUE,...] [OPTION...] SOURCE TARGET",
    .description =
        "Copies all that the guest sees of the source, its parents included, into one new image. "
        "Zeroes stay out of it. Where both files lie on a file system that shares extents (XFS, "
        "Btrfs), the content is shared instead of copied.\n\n"
        "The new image is written beside its final name and renamed when it is whole and on the "
        "disk. All options are checked before anything is written. A target that exists is "
        "refused without --force; one that is part of the source always.\n\n"
        "- as TARGET is standard output, in any format, never a terminal; vhd measure tells the "
        "length before. - as SOURCE is standard input, a raw disk.",
    .examples = examples,
    .exit_codes = exit_codes,
    .takes_target_options = true,
};

std::string text_of(const image::ConvertReport& report) {
  return fmt::format("{} of disk in a file of {}: {} copied, {} shared, {} found to be zero",
                     short_size_text(report.disk_bytes), short_size_text(report.file_bytes),
                     short_size_text(report.copied_bytes), short_size_text(report.cloned_bytes),
                     short_size_text(report.zero_bytes));
}

class Convert final : public Verb {
 public:
  const Page& page() const override { return convert_page; }

  void declare(Arguments& arguments) override {
    arguments.positional("SOURCE", source_path_, "The image to read; - is standard input, raw.");
    arguments.positional("TARGET", target_path_, "The new image; - is standard output.");
    target_.declare(arguments, "-O,--target-format");
    arguments.flag("--force", options_.replace, "Replace a target that exists.");
    arguments.option("-m,--requests", "COUNT", take_request_count(),
                     "Transfers in flight, 1 to 16; default 8.");
    arguments.flag("--no-clone", no_clone_, "Copy also where extents could be shared.");
    progress_.declare(arguments);
    open_.declare(arguments);
  }

  Result<int> run(async::Loop& loop) override {
    TRY(check_before_opening());
    watch_signals();
    options_.target = target_.options;
    options_.allow_clone = !no_clone_;
    TRY_LET(auto source, open_source(loop, source_path_, open_.options, progress_, spool_folder()));
    ProgressBar bar = progress_.bar();
    const auto report =
        writes_to_stream()
            ? loop.run(image::convert_to_stream(loop, *source, STDOUT_FILENO, options_, &bar))
            : loop.run(image::convert(loop, *source, target_path_, options_, &bar));
    TRY(report);
    bar.finish();
    if (progress_.shows()) say(text_of(*report));
    return 0;
  }

 private:
  bool writes_to_stream() const { return target_path_ == "-"; }

  Take take_request_count() {
    return [this](const std::string& value) -> Result<void> {
      uint64_t count = 0;
      TRY_LET(count, parse_size(value));
      if (count < 1 || count > image::max_request_count)
        return fail(Errc::invalid_argument,
                    fmt::format("{} is not from 1 to {}", value, image::max_request_count));
      options_.request_count = unsigned(count);
      return {};
    };
  }

  // Standard input may be read for hours before the target's turn comes.
  Result<void> check_before_opening() const {
    TRY(check_early(target_.options));
    if (writes_to_stream() && options_.replace)
      return fail(Errc::invalid_argument, "--force replaces files; standard output is none");
    if (writes_to_stream() && isatty(STDOUT_FILENO) != 0)
      return fail(Errc::invalid_argument, "standard output is a terminal; no image goes there");
    if (writes_to_stream()) return {};
    std::error_code ignored;
    const auto status = std::filesystem::status(target_path_, ignored);
    if (!std::filesystem::exists(status)) return {};
    if (!std::filesystem::is_regular_file(status))
      return fail(Errc::unsupported, target_path_ + ": exists and is no regular file");
    if (!options_.replace) return fail(Errc::exists, target_path_ + ": exists already");
    return {};
  }

  // Beside the target, so that what was spooled can be shared with it.
  std::string spool_folder() const {
    if (writes_to_stream()) return default_spool_folder();
    const std::string folder = std::filesystem::path(target_path_).parent_path().string();
    return folder.empty() ? "." : folder;
  }

  std::string source_path_;
  std::string target_path_;
  TargetArguments target_;
  image::ConvertOptions options_;
  bool no_clone_ = false;
  OpenArguments open_;
  ProgressArguments progress_;
};

}  // namespace

std::unique_ptr<Verb> make_convert() { return std::make_unique<Convert>(); }

}  // namespace vhdkit::tools
