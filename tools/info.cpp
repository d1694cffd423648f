#include "image/image.h"
#include "tools/console.h"
#include "tools/info_json.h"
#include "tools/options.h"
#include "tools/text.h"
#include "tools/verb.h"

namespace vhdkit::tools {
namespace {

constexpr Example examples[] = {
    {"What is this?", "vhd info disk.vhdx"},
    {"A checkpoint and all its parents, for a program", "vhd info --chain --output=json vm.avhdx"},
    {"Parents that Windows knew as C:\\vm\\...",
     "vhd info --chain --map 'C:\\vm=/mnt/vm' vm.avhdx"},
};
constexpr ExitCode exit_codes[] = {
    {0, "the image was opened; parents that are missing are warnings"},
    {1, "it could not be opened"},
};
constexpr Page info_page = {
    .summary = "shows what an image says of itself",
    .synopsis = "[OPTION...] IMAGE",
    .description =
        "Shows format, type, sizes, identifiers, creator, the state of a VHDX log and the parent. "
        "Only headers are read, so the size of the image does not matter.\n\n"
        "\"virtual size\" is the guest's disk; \"disk size\" is what the file takes of its file "
        "system. JSON has the fields of qemu-img info; what only VHD and VHDX have stands under "
        "\"format-specific\".",
    .examples = examples,
    .exit_codes = exit_codes,
};

std::string text_of(const InChain& shown) {
  const disk::Geometry& geometry = shown.layer.geometry();
  Listing listing;
  listing.add("image", printable(shown.link.path));
  listing.add("file format", std::string(image::format_name(*shown.link.format)));
  listing.add("virtual size", size_text(geometry.size_bytes));
  listing.add("disk size", size_text(shown.link.allocated_bytes));
  if (const disk::ParentReference* reference = shown.layer.parent()) {
    std::string place = printable(stored_parent_path(*reference));
    if (shown.parent != nullptr && shown.parent->verdict == image::LinkVerdict::ok)
      place += " (here: " + printable(shown.parent->path) + ")";
    listing.add("backing file", place);
  }
  const disk::Description description = shown.layer.describe();
  if (!description.fields().empty()) {
    Listing specific;
    specific.add_fields(description);
    listing.add_section("format specific information", std::move(specific));
  }
  return listing.text();
}

class Info final : public Verb {
 public:
  const Page& page() const override { return info_page; }

  void declare(Arguments& arguments) override {
    arguments.positional("IMAGE", path_, "The image. A .gz of a raw or fixed image is unpacked.");
    arguments.flag("--chain,--backing-chain", chain_, "Show the parents too, child first.");
    output_.declare(arguments);
    open_.declare(arguments);
  }

  Result<int> run(async::Loop& loop) override {
    TRY_LET(auto image, loop.run(image::Image::inspect(loop, path_, open_.options)));
    print_warnings(*image);
    const std::vector<image::ChainLink>& links = image->links();
    if (links.back().verdict != image::LinkVerdict::ok) warn(links.back().message);
    const size_t count = chain_ ? image->disk().layer_count() : 1;
    std::string text;
    if (output_.json) {
      text = json_text(chain_ ? chain_json(*image) : info_json(in_chain(*image, 0)));
    } else {
      for (size_t depth = 0; depth < count; ++depth)
        text += (depth > 0 ? "\n" : "") + text_of(in_chain(*image, depth));
    }
    print(text);
    return 0;
  }

 private:
  std::string path_;
  bool chain_ = false;
  OpenArguments open_;
  OutputArguments output_;
};

}  // namespace

std::unique_ptr<Verb> make_info() { return std::make_unique<Info>(); }

}  // namespace vhdkit::tools
