#include "image/resize.h"

#include "tools/console.h"
#include "tools/json.h"
#include "tools/options.h"
#include "tools/signals.h"
#include "tools/text.h"
#include "tools/verb.h"

namespace vhdkit::tools {
namespace {

constexpr Example examples[] = {
    {"To 100 GiB", "vhd resize disk.vhdx 100G"},
    {"By 10 GiB more", "vhd resize disk.vhd +10G"},
    {"To what the partitions need, once the file systems were made smaller",
     "vhd resize --shrink disk.vhdx 20G"},
};
constexpr ExitCode exit_codes[] = {
    {0, "the disk has the new size, on the disk"},
    {1, "it has the old size, or the image could not be opened"},
};
constexpr Page resize_page = {
    .summary = "makes a disk larger or smaller",
    .synopsis = "[OPTION...] IMAGE [+|-]SIZE",
    .description =
        "Changes the size of IMAGE's disk in place: to SIZE, or by as much more or less. What it "
        "gets reads as zeroes, also where a parent has something there. Partitions and file "
        "systems stay as they are; the second header of a GPT is not where it belongs any more "
        "(sgdisk -e moves it). After a crash the disk has the old or the new size.\n\n"
        "A smaller size needs --shrink: what lies behind the new end is lost, so make the file "
        "systems and partitions smaller first. The blocks there are given back; the file gets "
        "shorter where they lay at its end.\n\n"
        "A fixed VHD is made anew beside the old one, which needs room for both unless the file "
        "system shares their content. A differencing VHD is refused: Windows opens it only "
        "with a parent of the same size; merge it first, or convert it. An image that has children "
        "in its folder is refused: "
        "resize the child, or merge it first.",
    .examples = examples,
    .exit_codes = exit_codes,
};

Take size_change_into(image::SizeChange& target) {
  return [&target](const std::string& value) -> Result<void> {
    TRY_LET(target, parse_size_change(value));
    return {};
  };
}

class Resize final : public Verb {
 public:
  const Page& page() const override { return resize_page; }
  bool changes_images() const override { return true; }

  void declare(Arguments& arguments) override {
    arguments.positional("IMAGE", path_, "The image: raw, vhd or vhdx.");
    arguments.required_option("SIZE", "SIZE", size_change_into(options_.size),
                              "Bytes, or with K, M, G, T behind them; + and -: by that much.");
    arguments.flag("--shrink", options_.shrink, "Allow a smaller size.");
    arguments.option("-f,--format", "FORMAT", format_into(open_.format),
                     "The image's format; without it its content says it.");
    declare_mappings(arguments, open_.path_mappings);
    progress_.declare(arguments);
    output_.declare(arguments);
  }

  Result<int> run(async::Loop& loop) override {
    watch_signals();
    ProgressBar bar = progress_.bar();
    TRY_LET(const image::ResizeReport report,
            loop.run(image::resize(loop, path_, options_, open_, &bar)));
    bar.finish();
    if (output_.json) {
      print(json_text({{"filename", path_},
                       {"old-virtual-size", report.old_bytes},
                       {"virtual-size", report.new_bytes}}));
    } else if (!progress_.quiet) {
      print(printable(path_) + ": " + size_text(report.old_bytes) + " -> " +
            size_text(report.new_bytes) + "\n");
    }
    return 0;
  }

 private:
  std::string path_;
  image::ResizeOptions options_;
  image::OpenOptions open_;
  ProgressArguments progress_;
  OutputArguments output_;
};

}  // namespace

std::unique_ptr<Verb> make_resize() { return std::make_unique<Resize>(); }

}  // namespace vhdkit::tools
