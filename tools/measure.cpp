#include <fmt/format.h>

#include "async/memory_file.h"
#include "image/convert.h"
#include "tools/console.h"
#include "tools/json.h"
#include "tools/options.h"
#include "tools/signals.h"
#include "tools/target_options.h"
#include "tools/text.h"
#include "tools/verb.h"

namespace vhdkit::tools {
namespace {

constexpr Example examples[] = {
    {"How long will the stream be?", "vhd measure -O vhd -o subformat=dynamic disk.qcow2"},
    {"What can an empty disk of 1 TiB grow to?", "vhd measure -O vhdx --size 1T"},
};
constexpr ExitCode exit_codes[] = {
    {0, "the sizes were printed"},
    {1, "the source could not be read, or there can be no such target"},
};
constexpr Page measure_page = {
    .summary = "says how large a conversion's result will be",
    .synopsis = "[OPTION...] -O FORMAT IMAGE|--size SIZE",
    .description =
        "Prints the exact size of the file that convert with the same options makes of the image, "
        "and the size of that file once every block is in use. Both count bytes of the file's "
        "length; what it takes of its file system is less where it has holes. The image is read "
        "where it may be zero.",
    .examples = examples,
    .exit_codes = exit_codes,
    .takes_target_options = true,
};

class Measure final : public Verb {
 public:
  const Page& page() const override { return measure_page; }

  void declare(Arguments& arguments) override {
    arguments.optional_positional("IMAGE", into(path_), "The source; - is standard input, raw.");
    target_.declare(arguments, "-O,--target-format");
    arguments.option("--size", "SIZE", size_into(size_bytes_),
                     "An empty disk of this size in place of an image.");
    progress_.declare(arguments);
    output_.declare(arguments);
    open_.declare(arguments);
  }

  Result<int> run(async::Loop& loop) override {
    if (path_.has_value() == (size_bytes_ != 0))
      return fail(Errc::invalid_argument, "measure takes either an image or --size");
    if (!path_ && (open_.options.format || has_image_options(open_.options)))
      return fail(Errc::invalid_argument,
                  "--size stands in place of an image; -f, --parent, --map and --ignore-log belong "
                  "to one");
    TRY(check_early(target_.options));
    watch_signals();
    TRY_LET(auto image, source(loop));
    const image::ConvertOptions options{.target = target_.options};
    ProgressBar bar = progress_.bar();
    TRY_LET(const image::Measurement measurement,
            loop.run(image::measure(loop, *image, options, &bar)));
    bar.finish();
    const uint64_t required = measurement.required_bytes;
    const uint64_t full = measurement.fully_allocated_bytes;
    if (output_.json) {
      print(json_text({{"required", required}, {"fully-allocated", full}}));
    } else {
      print(fmt::format("required size: {}\nfully allocated size: {}\n", required, full));
    }
    return 0;
  }

 private:
  Result<std::unique_ptr<image::Image>> source(async::Loop& loop) {
    if (path_) return open_source(loop, *path_, open_.options, progress_, default_spool_folder());
    auto empty = std::make_unique<async::MemoryFile>("--size");
    TRY(empty->resize(size_bytes_));
    return image::Image::from_raw(std::move(empty));
  }

  std::optional<std::string> path_;
  uint64_t size_bytes_ = 0;
  TargetArguments target_;
  OpenArguments open_;
  ProgressArguments progress_;
  OutputArguments output_;
};

}  // namespace

std::unique_ptr<Verb> make_measure() { return std::make_unique<Measure>(); }

}  // namespace vhdkit::tools
