#include <fmt/format.h>

#include "image/edit.h"
#include "tools/options.h"
#include "tools/signals.h"
#include "tools/verb.h"

namespace vhdkit::tools {
namespace {

constexpr Example examples[] = {
    {"A copy that a machine may have beside the original", "vhd set --disk-id random copy.vhdx"},
    {"For a guest that wants sectors of 4 KiB", "vhd set --physical-sector-size 4K disk.vhdx"},
};
constexpr ExitCode exit_codes[] = {
    {0, "the values are changed, on the disk"},
    {1, "nothing was changed, or the image could not be opened"},
};
constexpr Page set_page = {
    .summary = "changes what an image says of itself",
    .synopsis = "[OPTION...] IMAGE",
    .description =
        "Changes identifiers and the physical sector size in place; the disk's content stays. "
        "After a crash each value is the old or the new one.\n\n"
        "A VHD's unique identifier and a VHDX's DataWriteGuid are what children know their parent "
        "by: where the image has children in its folder, changing it must be forced, and vhd "
        "reparent makes the children name the new one.",
    .examples = examples,
    .exit_codes = exit_codes,
};

Take guid_into(std::optional<Guid>& target) {
  return [&target](const std::string& value) -> Result<void> {
    target = value == "random" ? Guid::random() : Guid::parse(value);
    if (target) return check_identifier(*target);
    return fail(Errc::invalid_argument,
                fmt::format("\"{}\" is neither a GUID nor \"random\"", value));
  };
}

class Set final : public Verb {
 public:
  const Page& page() const override { return set_page; }
  bool changes_images() const override { return true; }

  void declare(Arguments& arguments) override {
    arguments.positional("IMAGE", path_, "The image: vhd or vhdx.");
    arguments.option("--disk-id", "GUID", guid_into(options_.disk_id),
                     "VHDX: the virtual disk identifier; VHD: the unique identifier.");
    arguments.option("--data-write-guid", "GUID", guid_into(options_.data_write_guid),
                     "VHDX: the identity that children name.");
    arguments.option(
        "--physical-sector-size", "SIZE",
        [this](const std::string& value) -> Result<void> {
          TRY_LET(const uint64_t size, parse_size(value));
          if (size > UINT32_MAX) return fail(Errc::invalid_argument, "it is 512 or 4096");
          options_.physical_sector_bytes = uint32_t(size);
          return {};
        },
        "VHDX: 512 or 4096.");
    arguments.flag("--force", options_.force, "Change an identity that children name, too.");
    arguments.option("-f,--format", "FORMAT", format_into(open_.format),
                     "The image's format; without it its content says it.");
  }

  Result<int> run(async::Loop& loop) override {
    watch_signals();
    TRY(loop.run(image::set(loop, path_, options_, open_)));
    return 0;
  }

 private:
  std::string path_;
  image::SetOptions options_;
  image::OpenOptions open_;
};

}  // namespace

std::unique_ptr<Verb> make_set() { return std::make_unique<Set>(); }

}  // namespace vhdkit::tools
