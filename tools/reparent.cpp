#include "image/edit.h"
#include "tools/options.h"
#include "tools/signals.h"
#include "tools/verb.h"

namespace vhdkit::tools {
namespace {

constexpr Example examples[] = {
    {"The base has moved", "vhd reparent --to /archive/base.vhdx child.avhdx"},
    {"With the path that Windows will see",
     "vhd reparent --to base.vhdx --windows-path 'D:\\vm\\base.vhdx' child.avhdx"},
};
constexpr ExitCode exit_codes[] = {
    {0, "the child names the parent, on the disk"},
    {1, "it names what it named before"},
};
constexpr Page reparent_page = {
    .summary = "makes a child name its parent's new path",
    .synopsis = "--to PARENT [OPTION...] CHILD",
    .description =
        "Stores the path from CHILD to PARENT, and PARENT's identity, in the child. PARENT must be "
        "the image that CHILD names already, by its identity; with --force another one is taken, "
        "and then the disk is what the two make together. After a crash CHILD names the old or "
        "the new parent.",
    .examples = examples,
    .exit_codes = exit_codes,
};

class Reparent final : public Verb {
 public:
  const Page& page() const override { return reparent_page; }
  bool changes_images() const override { return true; }

  void declare(Arguments& arguments) override {
    arguments.positional("CHILD", path_, "The differencing image.");
    arguments.required_option("--to", "PARENT", into(options_.parent_path), "The parent.");
    arguments.option("--windows-path", "PATH", into(options_.windows_parent_path),
                     "The parent's absolute path as Windows will see it; stored too.");
    arguments.flag("--force", options_.force, "Take a parent with another identity.");
    declare_mappings(arguments, open_.path_mappings);
  }

  Result<int> run(async::Loop& loop) override {
    watch_signals();
    TRY(loop.run(image::reparent(loop, path_, options_, open_)));
    return 0;
  }

 private:
  std::string path_;
  image::ReparentOptions options_;
  image::OpenOptions open_;
};

}  // namespace

std::unique_ptr<Verb> make_reparent() { return std::make_unique<Reparent>(); }

}  // namespace vhdkit::tools
