#include "image/snapshot.h"

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
    {"From now on the machine uses the new file, whose name is printed", "vhd snapshot disk.vhdx"},
    {"With a name of one's own", "vhd snapshot --to before-upgrade.avhdx disk.vhdx"},
};
constexpr ExitCode exit_codes[] = {
    {0, "the child is there, whole and on the disk; its path was printed"},
    {1, "there is none, and nothing was changed"},
};
constexpr Page snapshot_page = {
    .summary = "makes a child that takes an image's place",
    .synopsis = "[OPTION...] IMAGE",
    .description =
        "Makes a differencing image over IMAGE, in the same folder and with the same block and "
        "sector sizes, and prints its path. Whoever uses the disk opens the child from now on; "
        "IMAGE keeps the disk as it is now, and must not be written any more. vhd merge puts the "
        "changes back into it.\n\n"
        "The child is named as Hyper-V names its checkpoints: disk.vhdx gets disk_GUID.avhdx. The "
        "guest sees the same disk: a VHDX's virtual disk identifier is the child's too. Nobody may "
        "read "
        "it who may not read IMAGE, and the umask takes more off.",
    .examples = examples,
    .exit_codes = exit_codes,
};

class Snapshot final : public Verb {
 public:
  const Page& page() const override { return snapshot_page; }
  bool changes_images() const override { return true; }

  void declare(Arguments& arguments) override {
    arguments.positional("IMAGE", path_, "The image: vhd or vhdx.");
    arguments.option("--to", "FILE", into(options_.child_path), "The child's path.");
    declare_mappings(arguments, open_.path_mappings);
    output_.declare(arguments);
  }

  Result<int> run(async::Loop& loop) override {
    watch_signals();
    TRY_LET(const std::string child, loop.run(image::snapshot(loop, path_, options_, open_)));
    if (output_.json) {
      print(json_text({{"filename", child}, {"parent", path_}}));
    } else {
      print(printable(child) + "\n");
    }
    return 0;
  }

 private:
  std::string path_;
  image::SnapshotOptions options_;
  image::OpenOptions open_;
  OutputArguments output_;
};

}  // namespace

std::unique_ptr<Verb> make_snapshot() { return std::make_unique<Snapshot>(); }

}  // namespace vhdkit::tools
