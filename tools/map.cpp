#include "image/map.h"

#include <fmt/format.h>

#include <algorithm>

#include "tools/console.h"
#include "tools/map_svg.h"
#include "tools/options.h"
#include "tools/text.h"
#include "tools/verb.h"

namespace vhdkit::tools {
namespace {

using image::MapEntry;

constexpr Example examples[] = {
    {"Where does the content lie?", "vhd map disk.vhdx"},
    {"For a program, which image of the chain answers included", "vhd map --output=json vm.avhdx"},
    {"As a picture, for a browser", "vhd map --output=svg vm.avhdx >vm.svg"},
};
constexpr ExitCode exit_codes[] = {
    {0, "all of the disk was mapped"},
    {1, "the image could not be opened, or is damaged"},
};
constexpr Page map_page = {
    .summary = "lists where the disk's content lies",
    .synopsis = "[OPTION...] IMAGE",
    .description =
        "Lists the extents of the whole disk in the guest's order. Depth 0 is the image itself, 1 "
        "its parent, and so on. The states: \"data\" lies in the file at the file offset; "
        "\"compressed\" is data that only the format can unpack. The rest reads as zeroes: "
        "\"hole\" has its place in the file, but the file has a hole there; \"zero\" is what an "
        "image says to be zero, or has no block for; \"unallocated\" is what no image of the chain "
        "answers for.\n\n"
        "JSON is the array of qemu-img map, and is printed while the image is read.\n\n"
        "SVG is a picture of the disk in cells of equal size, 2048 at most, coloured by the depth "
        "at which their data lies; a browser shows each cell's bytes where it is pointed at.",
    .examples = examples,
    .exit_codes = exit_codes,
};

std::string_view state_of(const MapEntry& entry) {
  if (entry.encoded) return "compressed";
  if (!entry.zero) return "data";
  if (!entry.present) return "unallocated";
  return entry.file_offset ? "hole" : "zero";
}

class JsonPrinter final : public image::MapVisitor {
 public:
  void visit(const MapEntry& entry) override {
    std::string line = fmt::format(
        R"({}{{ "start": {}, "length": {}, "depth": {}, "present": {}, "zero": {}, "data": {}, )"
        R"("compressed": {})",
        is_first_ ? "[" : ",\n", entry.disk_offset, entry.length, entry.depth, entry.present,
        entry.zero, !entry.zero, entry.encoded);
    if (entry.file_offset) line += fmt::format(R"(, "offset": {})", *entry.file_offset);
    print(line + "}");
    is_first_ = false;
  }
  void finish() { print(is_first_ ? "[]\n" : "]\n"); }

 private:
  bool is_first_ = true;
};

// One line for each extent, as they come: the columns' widths are known before.
class TablePrinter final : public image::MapVisitor {
 public:
  explicit TablePrinter(image::Image& image) : image_(image) {
    uint64_t largest = image.disk().geometry().size_bytes;
    for (size_t depth = 0; depth < image.disk().layer_count(); ++depth)
      largest = std::max(largest, image.disk().layer(uint32_t(depth)).file().size_bytes());
    width_ = std::max(fmt::formatted_size("{:#x}", largest), std::string_view(offset_title).size());
    names_files_ = image.disk().layer_count() > 1;
    const std::string_view file_title = names_files_ ? "  File" : "";
    print(fmt::format("{:>{}}  {:>{}}  Depth  {:<11}  {:>{}}{}\n", "Offset", width_, "Length",
                      width_, "State", offset_title, width_, file_title));
  }

  void visit(const MapEntry& entry) override {
    const std::string offset = entry.file_offset ? fmt::format("{:#x}", *entry.file_offset) : "-";
    std::string line =
        fmt::format("{:>#{}x}  {:>#{}x}  {:>5}  {:<11}  {:>{}}", entry.disk_offset, width_,
                    entry.length, width_, entry.depth, state_of(entry), offset, width_);
    if (names_files_) line += "  " + printable(image_.links()[entry.depth].path);
    print(line + "\n");
  }

 private:
  static constexpr char offset_title[] = "File offset";
  image::Image& image_;
  size_t width_;
  bool names_files_;
};

std::vector<std::string> paths_of(const image::Image& image) {
  std::vector<std::string> paths;
  for (const auto& link : image.links()) paths.push_back(link.path);
  return paths;
}

class Map final : public Verb {
 public:
  const Page& page() const override { return map_page; }

  void declare(Arguments& arguments) override {
    arguments.positional("IMAGE", path_, "The image.");
    output_.declare_with_svg(arguments, "a picture of the disk");
    open_.declare(arguments);
  }

  Result<int> run(async::Loop& loop) override {
    TRY_LET(auto image, loop.run(image::Image::open(loop, path_, open_.options)));
    print_warnings(*image);
    constexpr bool find_holes = true;
    if (output_.json) {
      JsonPrinter printer;
      TRY(loop.run(image::map(*image, find_holes, printer)));
      printer.finish();
    } else if (output_.svg) {
      AllocationPicture picture(image->disk().geometry().size_bytes, paths_of(*image));
      TRY(loop.run(image::map(*image, find_holes, picture)));
      print(picture.svg());
    } else {
      TablePrinter printer(*image);
      TRY(loop.run(image::map(*image, find_holes, printer)));
    }
    return 0;
  }

 private:
  std::string path_;
  OpenArguments open_;
  OutputArguments output_;
};

}  // namespace

std::unique_ptr<Verb> make_map() { return std::make_unique<Map>(); }

}  // namespace vhdkit::tools
