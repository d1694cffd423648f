#include "image/image.h"
#include "tools/console.h"
#include "tools/json.h"
#include "tools/options.h"
#include "tools/text.h"
#include "tools/verb.h"

namespace vhdkit::tools {
namespace {

using image::ChainLink;
using image::LinkVerdict;

constexpr int whole = 0;
constexpr int broken = 2;

constexpr Example examples[] = {
    {"Are all parents of a checkpoint there, and the right ones?", "vhd chain vm.avhdx"},
    {"The parents lie elsewhere on this system", "vhd chain --map 'C:\\vm=/mnt/vm' vm.avhdx"},
};
constexpr ExitCode exit_codes[] = {
    {whole, "every image of the chain is there and the right one"},
    {1, "the image itself could not be opened"},
    {broken, "a parent is missing, unreadable, not the one named, or its own ancestor"},
};
constexpr Page chain_page = {
    .summary = "shows an image's parents and whether they are the right ones",
    .synopsis = "[OPTION...] IMAGE",
    .description =
        "Follows the chain from the image to its last parent. A link's verdict is \"ok\", "
        "\"missing\", \"wrong-identity\" (a file is there, but it is not the parent that the child "
        "names), \"cycle\", \"unreadable\" or \"too-deep\" (more than 1024 images); a link that is "
        "not ok has its reason and the paths that were tried below it.",
    .examples = examples,
    .exit_codes = exit_codes,
};

Json json_of(const ChainLink& link, size_t depth, disk::Layer* layer) {
  Json json = {
      {"depth", depth}, {"filename", link.path}, {"verdict", image::verdict_name(link.verdict)}};
  if (layer != nullptr) {
    json["format"] = image::format_name(*link.format);
    json["virtual-size"] = layer->geometry().size_bytes;
    json["actual-size"] = link.allocated_bytes;
    if (layer->identity()) json["identity"] = layer->identity()->to_string();
  }
  if (!link.message.empty()) json["message"] = link.message;
  json["tried"] = link.tried;
  json["warnings"] = link.warnings;
  return json;
}

// The image's layer; null where the link has none.
disk::Layer* layer_of(image::Image& image, size_t depth) {
  return depth < image.disk().layer_count() ? &image.disk().layer(uint32_t(depth)) : nullptr;
}

std::string json_of(image::Image& image, bool is_whole) {
  Json images = Json::array();
  for (size_t depth = 0; depth < image.links().size(); ++depth)
    images.push_back(json_of(image.links()[depth], depth, layer_of(image, depth)));
  return json_text({{"filename", image.path()}, {"whole", is_whole}, {"images", images}});
}

std::string text_of(image::Image& image) {
  Table table({{"Depth", Table::Align::right},
               {"Format"},
               {"Type"},
               {"Size", Table::Align::right},
               {"Verdict"},
               {"Image"}});
  for (size_t depth = 0; depth < image.links().size(); ++depth) {
    const ChainLink& link = image.links()[depth];
    disk::Layer* const layer = layer_of(image, depth);
    const std::string type = layer ? layer->describe().text("type") : "";
    table.add({std::to_string(depth), layer ? std::string(image::format_name(*link.format)) : "-",
               type.empty() ? "-" : type,
               layer ? short_size_text(layer->geometry().size_bytes) : "-",
               std::string(image::verdict_name(link.verdict)), printable(link.path)});
  }
  const ChainLink& last = image.links().back();
  std::string text = table.text();
  if (last.verdict == LinkVerdict::ok) return text;
  text += printable(last.message) + "\n";
  for (const std::string& path : last.tried) text += "  tried: " + printable(path) + "\n";
  return text;
}

class Chain final : public Verb {
 public:
  const Page& page() const override { return chain_page; }

  void declare(Arguments& arguments) override {
    arguments.positional("IMAGE", path_, "The youngest image of the chain.");
    output_.declare(arguments);
    open_.declare(arguments);
  }

  Result<int> run(async::Loop& loop) override {
    TRY_LET(auto image, loop.run(image::Image::inspect(loop, path_, open_.options)));
    print_warnings(*image);
    const bool is_whole = image->links().back().verdict == LinkVerdict::ok;
    print(output_.json ? json_of(*image, is_whole) : text_of(*image));
    return is_whole ? whole : broken;
  }

 private:
  std::string path_;
  OpenArguments open_;
  OutputArguments output_;
};

}  // namespace

std::unique_ptr<Verb> make_chain() { return std::make_unique<Chain>(); }

}  // namespace vhdkit::tools
