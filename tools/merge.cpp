#include "image/merge.h"

#include <fmt/format.h>

#include "tools/console.h"
#include "tools/json.h"
#include "tools/options.h"
#include "tools/signals.h"
#include "tools/text.h"
#include "tools/verb.h"

namespace vhdkit::tools {
namespace {

constexpr Example examples[] = {
    {"What would be done, and how much space it may need", "vhd merge --dry-run child.avhdx"},
    {"Into the parent; the child is removed at the end", "vhd merge -p child.avhdx"},
    {"A whole chain into its base", "vhd merge --into base.vhdx newest.avhdx"},
};
constexpr ExitCode exit_codes[] = {
    {0, "the content is in the parent, on the disk"},
    {1,
     "it is not, or not all of it; the child still shows its disk, and the same command goes on"},
};
constexpr Page merge_page = {
    .summary = "puts a child's content into its parent",
    .synopsis = "[OPTION...] CHILD",
    .description =
        "Writes what CHILD holds into its parent, or what CHILD and the images below it hold into "
        "an image further down, and then removes the merged files, CHILD last. At every moment "
        "until then CHILD shows the same disk: when the work is interrupted, also by a power cut, "
        "run it again with the same words.\n\n"
        "That image gets CHILD's size too. Where it was larger, what it had behind CHILD's end, "
        "and CHILD does not show, is lost; --dry-run says so.\n\n"
        "Children of CHILD itself that lie in its folder get the image below as their parent: so a "
        "checkpoint is taken out of the middle of a chain. If the image below, or one between, has "
        "other children there, the merge is refused, since they would be lost. Children in other "
        "folders are not known: as VHDX, they no longer open afterwards. All images are locked "
        "meanwhile.\n\n"
        "Only VHD and VHDX are merged; vhd convert makes one disk of a qcow2 and its parents.",
    .examples = examples,
    .exit_codes = exit_codes,
};

class Merge final : public Verb {
 public:
  const Page& page() const override { return merge_page; }
  bool changes_images() const override { return true; }

  void declare(Arguments& arguments) override {
    arguments.positional("CHILD", path_, "The differencing image.");
    arguments.option("--into", "IMAGE", into(options_.into),
                     "An image of the chain, instead of the parent.");
    arguments.flag("--dry-run", options_.dry_run, "Say what would be done, and change nothing.");
    arguments.flag("--keep", options_.keep_files, "Do not remove the merged files.");
    declare_mappings(arguments, open_.path_mappings);
    progress_.declare(arguments);
    output_.declare(arguments);
  }

  Result<int> run(async::Loop& loop) override {
    watch_signals();
    ProgressBar bar = progress_.bar();
    TRY_LET(const image::MergeReport report,
            loop.run(image::merge(loop, path_, options_, open_, &bar)));
    bar.finish();
    if (output_.json) {
      print(json_text({{"into", report.into},
                       {"merged", report.merged},
                       {"moved", report.moved},
                       {"old-virtual-size", report.size.old_bytes},
                       {"virtual-size", report.size.new_bytes},
                       {"data-bytes", report.amount.data_bytes},
                       {"zero-bytes", report.amount.zero_bytes},
                       {"new-space-bytes", report.amount.new_space_bytes},
                       {"dry-run", options_.dry_run}}));
    } else if (!progress_.quiet) {
      print(text_of(report));
    }
    return 0;
  }

 private:
  std::string text_of(const image::MergeReport& report) const {
    Listing listing;
    listing.add("into", printable(report.into));
    for (const std::string& path : report.merged)
      listing.add(options_.dry_run ? "would merge" : "merged", printable(path));
    for (const std::string& path : report.moved)
      listing.add(options_.dry_run ? "would move" : "moved", printable(path));
    if (report.size.old_bytes != report.size.new_bytes)
      listing.add(options_.dry_run ? "would resize" : "resized",
                  size_text(report.size.old_bytes) + " -> " + size_text(report.size.new_bytes));
    listing.add("data", size_text(report.amount.data_bytes));
    listing.add("zeroes", size_text(report.amount.zero_bytes));
    listing.add("new space", "at most " + size_text(report.amount.new_space_bytes));
    return listing.text();
  }

  std::string path_;
  image::MergeOptions options_;
  image::OpenOptions open_;
  ProgressArguments progress_;
  OutputArguments output_;
};

}  // namespace

std::unique_ptr<Verb> make_merge() { return std::make_unique<Merge>(); }

}  // namespace vhdkit::tools
