#include "image/compare.h"

#include <fmt/format.h>

#include "tools/console.h"
#include "tools/json.h"
#include "tools/options.h"
#include "tools/signals.h"
#include "tools/text.h"
#include "tools/verb.h"

namespace vhdkit::tools {
namespace {

constexpr int same = 0;
constexpr int different = 1;
constexpr int cannot_open = 2;
constexpr int cannot_read = 4;

constexpr Example examples[] = {
    {"Did the conversion keep everything?", "vhd compare disk.qcow2 disk.vhdx"},
    {"A raw disk that looks like something else", "vhd compare -f raw dump.bin disk.vhd"},
};
constexpr ExitCode exit_codes[] = {
    {same, "the disks hold the same"},
    {different, "they differ"},
    {cannot_open, "an image could not be opened, or the arguments are wrong"},
    {cannot_read, "an image could not be read to its end"},
};
constexpr Page compare_page = {
    .summary = "compares what two disks hold, whatever their formats",
    .synopsis = "[OPTION...] A B",
    .description =
        "Compares the guests' bytes of two images with their chains. Where one disk is longer, the "
        "rest of it must be zeroes, unless -s is given. What both are known to have as zeroes is "
        "not read.",
    .examples = examples,
    .exit_codes = exit_codes,
};

std::string text_of(const image::Comparison& comparison) {
  const std::string sizes =
      comparison.size_a == comparison.size_b
          ? size_text(comparison.size_a)
          : fmt::format("{} and {}", size_text(comparison.size_a), size_text(comparison.size_b));
  if (comparison.same) return fmt::format("the disks are identical: {}\n", sizes);
  if (!comparison.first_difference) return fmt::format("the disks differ in size: {}\n", sizes);
  return fmt::format("the disks differ, first at {:#x} (byte {})\n", *comparison.first_difference,
                     *comparison.first_difference);
}

Json json_of(const image::Comparison& comparison) {
  Json json = {{"same", comparison.same},
               {"virtual-size-a", comparison.size_a},
               {"virtual-size-b", comparison.size_b}};
  if (comparison.first_difference) json["first-difference"] = *comparison.first_difference;
  return json;
}

class Compare final : public Verb {
 public:
  const Page& page() const override { return compare_page; }
  int failure_code() const override { return failure_code_; }

  void declare(Arguments& arguments) override {
    arguments.positional("A", path_a_, "One image. --parent is of this one.");
    arguments.positional("B", path_b_, "The other.");
    arguments.flag("-s,--strict", strict_, "Disks of different sizes differ.");
    arguments.option("-F,--second-format", "FORMAT", format_into(format_b_), "The format of B.");
    progress_.declare(arguments);
    output_.declare(arguments);
    open_.declare(arguments);
  }

  Result<int> run(async::Loop& loop) override {
    watch_signals();
    image::OpenOptions options_b = open_.options;
    options_b.format = format_b_;
    options_b.parent_path.reset();
    TRY_LET(auto a, loop.run(image::Image::open(loop, path_a_, open_.options)));
    TRY_LET(auto b, loop.run(image::Image::open(loop, path_b_, options_b)));
    if (!progress_.quiet) print_warnings(*a);
    if (!progress_.quiet) print_warnings(*b);
    failure_code_ = cannot_read;
    ProgressBar bar = progress_.bar();
    TRY_LET(const image::Comparison comparison, loop.run(image::compare(*a, *b, strict_, &bar)));
    bar.finish();
    if (output_.json) {
      print(json_text(json_of(comparison)));
    } else if (!progress_.quiet) {
      print(text_of(comparison));
    }
    return comparison.same ? same : different;
  }

 private:
  std::string path_a_;
  std::string path_b_;
  std::optional<image::Format> format_b_;
  bool strict_ = false;
  int failure_code_ = cannot_open;
  OpenArguments open_;
  ProgressArguments progress_;
  OutputArguments output_;
};

}  // namespace

std::unique_ptr<Verb> make_compare() { return std::make_unique<Compare>(); }

}  // namespace vhdkit::tools
