#include "image/create.h"

#include "tools/options.h"
#include "tools/signals.h"
#include "tools/target_options.h"
#include "tools/verb.h"

namespace vhdkit::tools {
namespace {

constexpr Example examples[] = {
    {"A dynamic VHDX of 100 GiB for a Linux guest",
     "vhd create -f vhdx --guest linux disk.vhdx 100G"},
    {"A fixed VHD that Azure takes", "vhd create -f vhd --profile azure disk.vhd 30G"},
    {"A checkpoint: a child that keeps what changes",
     "vhd create -f vhdx -b base.vhdx child.avhdx"},
    {"Its parent as Windows will find it, too",
     "vhd create -f vhdx -b base.vhdx -o windows_parent_path='C:\\vm\\base.vhdx' child.avhdx"},
};
constexpr ExitCode exit_codes[] = {
    {0, "the image is there, whole and on the disk"},
    {1, "there is none, and what lay under its name is as it was"},
};
constexpr Page create_page = {
    .summary = "makes an empty image, or a child of another",
    .synopsis = "-f FORMAT [-o KEY=VALUE,...] [-b PARENT [-F FORMAT]] FILE [SIZE]",
    .description =
        "Makes a new image whose disk reads as zeroes, or, with -b, a differencing image whose "
        "disk reads as its parent's. The defaults are what Windows accepts. All options are "
        "checked before anything is written; the image appears under its name only when it is "
        "whole.",
    .examples = examples,
    .exit_codes = exit_codes,
    .takes_target_options = true,
};

class Create final : public Verb {
 public:
  const Page& page() const override { return create_page; }

  void declare(Arguments& arguments) override {
    arguments.positional("FILE", path_, "The new image.");
    arguments.optional_positional("SIZE", size_into(target_.options.size_bytes),
                                  "Of the guest's disk; with -b the parent's, if left out.");
    target_.declare(arguments, "-f,--format");
    arguments.option(
        "-b,--backing", "PARENT", into(target_.options.parent_path),
        "The parent: an image of the same format. It must not change afterwards. Nobody "
        "may read the new image who may not read it; one that is replaced keeps its "
        "permissions.");
    arguments.option("-F,--backing-format", "FORMAT", format_into(parent_.format),
                     "The parent's format; without it its content says it.");
    declare_mappings(arguments, parent_.path_mappings);
    arguments.flag("--force", force_, "Replace a file of that name.");
    arguments.flag("-q,--quiet", quiet_,
                   "Taken for qemu-img's sake: nothing but errors is said here, always.");
  }

  Result<int> run(async::Loop& loop) override {
    if (parent_.format && !target_.options.parent_path)
      return fail(Errc::invalid_argument, "-F is the format of the parent, but there is no -b");
    TRY(check_early(target_.options));
    watch_signals();
    TRY(loop.run(image::create(loop, path_, target_.options, parent_, force_)));
    return 0;
  }

 private:
  std::string path_;
  TargetArguments target_;
  image::OpenOptions parent_;
  bool force_ = false;
  bool quiet_ = false;
};

}  // namespace

std::unique_ptr<Verb> make_create() { return std::make_unique<Create>(); }

}  // namespace vhdkit::tools
