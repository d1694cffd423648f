#include "image/hash.h"

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
    {"The same for the same content in any format", "vhd hash disk.vhdx"},
    {"With another algorithm, as sha256sum prints it for the raw disk",
     "vhd hash --algorithm sha256 disk.vhd"},
    {"What comes out of a pipe", "zcat disk.raw.gz | vhd hash -"},
};
constexpr ExitCode exit_codes[] = {
    {0, "the hash was printed"},
    {1, "the image could not be opened or read to its end"},
};
constexpr Page hash_page = {
    .summary = "hashes what a disk holds, whatever its format",
    .synopsis = "[OPTION...] IMAGE",
    .description =
        "Hashes all of the guest's bytes: the result is that of xxh128sum, sha256sum and the like "
        "for the raw disk, and it is printed as they print theirs. Known zeroes are hashed without "
        "reading them.",
    .examples = examples,
    .exit_codes = exit_codes,
};

class Hash final : public Verb {
 public:
  const Page& page() const override { return hash_page; }

  void declare(Arguments& arguments) override {
    arguments.positional("IMAGE", path_, "The image; - is standard input, raw.");
    arguments.option(
        "--algorithm", "NAME",
        [this](const std::string& value) -> Result<void> {
          algorithm_ = image::parse_hash_algorithm(value);
          algorithm_name_ = value;
          if (algorithm_) return {};
          return fail(Errc::invalid_argument,
                      fmt::format("\"{}\" is no hash known here; there are xxh128, sha256, sha1 "
                                  "and md5",
                                  value));
        },
        "xxh128 (the default, XXH3 with 128 bits), sha256, sha1 or md5.");
    progress_.declare(arguments);
    output_.declare(arguments);
    open_.declare(arguments);
  }

  Result<int> run(async::Loop& loop) override {
    watch_signals();
    TRY_LET(auto image, open_source(loop, path_, open_.options, progress_, default_spool_folder()));
    ProgressBar bar = progress_.bar();
    const image::HashAlgorithm algorithm = algorithm_.value_or(image::HashAlgorithm::xxh3_128);
    TRY_LET(const std::string hash, loop.run(image::hash(*image, algorithm, &bar)));
    bar.finish();
    if (output_.json) {
      print(json_text({{"filename", path_},
                       {"virtual-size", image->disk().geometry().size_bytes},
                       {"algorithm", algorithm_name_},
                       {"hash", hash}}));
    } else {
      print(fmt::format("{}  {}\n", hash, printable(path_)));
    }
    return 0;
  }

 private:
  std::string path_;
  std::optional<image::HashAlgorithm> algorithm_;
  std::string algorithm_name_ = "xxh128";
  OpenArguments open_;
  ProgressArguments progress_;
  OutputArguments output_;
};

}  // namespace

std::unique_ptr<Verb> make_hash() { return std::make_unique<Hash>(); }

}  // namespace vhdkit::tools
