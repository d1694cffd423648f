#include "image/convert.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include "image/check.h"
#include "image/compare.h"
#include "image/hash.h"
#include "tests/support/image_place.h"
#include "tests/support/programs.h"

namespace vhdkit::image {
namespace {

namespace fs = std::filesystem;
using tests::Content;
using tests::ImagePlace;

const CreateOptions raw{.format = Format::raw};
const CreateOptions fixed{.format = Format::vhd, .subformat = Subformat::fixed};
const CreateOptions dynamic{.format = Format::vhd, .subformat = Subformat::dynamic};
const CreateOptions small_blocks{
    .format = Format::vhd, .subformat = Subformat::dynamic, .block_size_bytes = 512 * KiB};
const CreateOptions fixed_vhdx{.format = Format::vhdx, .subformat = Subformat::fixed};
const CreateOptions dynamic_vhdx{.format = Format::vhdx, .block_size_bytes = 1 * MiB};
const CreateOptions all_targets[] = {raw, fixed, dynamic, small_blocks, fixed_vhdx, dynamic_vhdx};

ConvertOptions to(const CreateOptions& target) { return {.target = target}; }

Content padded(Content content) {
  content.resize(align_up(content.size(), 512));
  return content;
}

// The guest's bytes of a file as qemu-img reads them.
Content qemu_content(const ImagePlace& place, const std::string& name, Format format) {
  const std::string from = format == Format::vhd ? "vpc" : std::string(format_name(format));
  const std::string raw_path = place.path(name + ".qemu");
  REQUIRE(tests::run("qemu-img convert -f " + from + " -O raw '" + place.path(name) + "' '" +
                     raw_path + "'"));
  Content content = tests::file_content(raw_path);
  fs::remove(raw_path);
  return content;
}

TEST_CASE("raw, VHD and VHDX become each other, byte for byte, as qemu-img reads them") {
  if (!tests::has_program("qemu-img")) return tests::skip("no qemu-img");
  constexpr uint64_t sizes[] = {512, 2 * MiB + 512, 5 * MiB - 512};
  for (const uint64_t size : sizes) {
    CAPTURE(size);
    const Content content = tests::scattered(size, 12, unsigned(size));
    ImagePlace place;
    tests::put_file(place.path("source"), content);
    for (size_t i = 0; i < std::size(all_targets); ++i) {
      const std::string first = "first" + std::to_string(i);
      REQUIRE_OK(place.convert("source", first, to(all_targets[i])));
      REQUIRE_EQUAL(qemu_content(place, first, all_targets[i].format), content);
      for (size_t j = 0; j < std::size(all_targets); ++j) {
        const std::string second = first + std::to_string(j);
        REQUIRE_OK(place.convert(first, second, to(all_targets[j])));
        REQUIRE_EQUAL(place.content(second), content);
      }
      REQUIRE_EQUAL(tests::file_content(place.path(first + "0")), content);
    }
    REQUIRE_EQUAL(qemu_content(place, "first52", Format::vhd), content);
    REQUIRE_EQUAL(qemu_content(place, "first24", Format::vhdx), content);
    REQUIRE_EQUAL(qemu_content(place, "first15", Format::vhdx), content);
  }
}

TEST_CASE("a raw file that ends inside a sector is padded with zeroes") {
  for (const size_t size : {size_t{1}, size_t{511}, size_t{513}, size_t{3 * MiB + 1}}) {
    const Content content = tests::random_bytes(size, 1);
    for (const CreateOptions& target : all_targets) {
      CAPTURE(size);
      ImagePlace place;
      tests::put_file(place.path("source"), content);
      REQUIRE_OK(place.convert("source", "target", to(target)));
      REQUIRE_OK(place.convert("target", "raw", to(raw)));
      REQUIRE_EQUAL(tests::file_content(place.path("raw")), padded(content));
    }
  }
}

TEST_CASE("a target may be larger than its source, and not smaller") {
  ImagePlace place;
  Content content = tests::random_bytes(3 * MiB, 1);
  tests::put_file(place.path("source"), content);
  for (size_t i = 0; i < std::size(all_targets); ++i) {
    CreateOptions target = all_targets[i];
    target.size_bytes = 9 * MiB + 512;
    const auto report = place.convert("source", std::to_string(i), to(target));
    REQUIRE_OK(report);
    CHECK(report->disk_bytes == 9 * MiB + 512);
    Content wanted = content;
    wanted.resize(9 * MiB + 512);
    REQUIRE_EQUAL(place.content(std::to_string(i)), wanted);
    target.size_bytes = 3 * MiB - 512;
    REQUIRE_FAILS(Errc::invalid_argument, "is less than the source's 3145728",
                  place.convert("source", "smaller", to(target)));
  }
  CHECK_FALSE(fs::exists(place.path("smaller")));
}

TEST_CASE("for Azure the disk becomes whole MiB, unless its size is given") {
  for (const uint64_t size : {20 * MiB, 20 * MiB + 1, 21 * MiB - 512}) {
    CAPTURE(size);
    ImagePlace place;
    Content content = tests::scattered(size, 5, 1);
    tests::put_file(place.path("source"), content);
    ConvertOptions options{.target = {.format = Format::vhd, .profile = Profile::azure}};
    REQUIRE_OK(place.convert("source", "azure.vhd", options));
    const uint64_t rounded = align_up(size, 1 * MiB);
    CHECK(fs::file_size(place.path("azure.vhd")) == rounded + 512);
    content.resize(rounded);
    REQUIRE_EQUAL(place.content("azure.vhd"), content);
    const OpenOptions open_options;
    const auto report = place.loop().run(
        check(place.loop(), place.path("azure.vhd"), open_options, Profile::azure));
    REQUIRE_OK(report);
    CHECK(report->findings.total() == 0);

    options.target.size_bytes = 22 * MiB + 512;
    REQUIRE_FAILS(Errc::invalid_argument, "whole MiB", place.convert("source", "odd", options));
  }
}

TEST_CASE("bug class 6: sectors of 4096 bytes stay, unless the user changes them by name") {
  ImagePlace place;
  const Content content = tests::scattered(3 * MiB + 512, 20, 1);
  Content wanted = content;
  wanted.resize(3 * MiB + 4096);
  tests::put_file(place.path("raw"), content);
  CreateOptions large_sectors = dynamic_vhdx;
  large_sectors.logical_sector_bytes = 4096;
  REQUIRE_OK(place.convert("raw", "4096", to(large_sectors)));
  REQUIRE_EQUAL(place.content("4096"), wanted);
  for (const CreateOptions& target : {fixed_vhdx, dynamic_vhdx}) {
    ConvertOptions options = to(target);
    options.replace = true;
    REQUIRE_OK(place.convert("4096", "again", options));
    const auto image = place.open("again");
    REQUIRE_OK(image);
    CHECK((*image)->disk().geometry().logical_sector_bytes == 4096);
    CHECK((*image)->disk().geometry().physical_sector_bytes == 4096);
    REQUIRE_EQUAL(place.content(**image), wanted);
  }
  REQUIRE_OK(place.convert("4096", "raw again", to(raw)));
  REQUIRE_EQUAL(tests::file_content(place.path("raw again")), wanted);
  REQUIRE_FAILS(Errc::invalid_argument, "-o logical_sector_size=512 converts the bytes",
                place.convert("4096", "vhd", to(dynamic)));
  for (CreateOptions target : {dynamic, fixed, dynamic_vhdx}) {
    target.logical_sector_bytes = 512;
    ConvertOptions options = to(target);
    options.replace = true;
    REQUIRE_OK(place.convert("4096", "512", options));
    const auto image = place.open("512");
    REQUIRE_OK(image);
    CHECK((*image)->disk().geometry().logical_sector_bytes == 512);
    REQUIRE_EQUAL(place.content(**image), wanted);
  }
}

TEST_CASE("block sizes from the least to the most") {
  ImagePlace place;
  const Content content = tests::scattered(70 * MiB + 512, 30, 1);
  tests::put_file(place.path("raw"), content);
  for (const Format format : {Format::vhd, Format::vhdx})
    for (const uint64_t block : {1 * MiB, 2 * MiB, 32 * MiB, 256 * MiB}) {
      CAPTURE(block);
      ConvertOptions options{.target = {.format = format, .block_size_bytes = block},
                             .replace = true};
      REQUIRE_OK(place.convert("raw", "image", options));
      REQUIRE_EQUAL(place.content("image"), content);
      REQUIRE_OK(place.convert("image", "back", {.target = raw, .replace = true}));
      REQUIRE_EQUAL(tests::file_content(place.path("back")), content);
    }
}

// --- targets that must stay as they are ---

TEST_CASE("bug class 29: a bad option leaves the target intact, and nothing beside it") {
  const Guid id = Guid::literal("01234567-89ab-cdef-0123-456789abcdef");
  struct Case {
    ConvertOptions options;
    const char* text;
  };
  const Case cases[] = {
      {{.target = {.format = Format::qcow2}}, "qcow2 is read, not written"},
      {{.target = {.format = Format::raw, .subformat = Subformat::fixed}}, "no subformat"},
      {{.target = {.format = Format::raw, .block_size_bytes = MiB}}, "no block size"},
      {{.target = {.format = Format::raw, .disk_id = id}}, "no disk identifier"},
      {{.target = {.format = Format::vhd, .size_bytes = 1000}}, "is less than the source's"},
      {{.target = {.format = Format::vhd, .size_bytes = 4 * MiB + 100}}, "no multiple"},
      {{.target = {.format = Format::vhd, .block_size_bytes = 100}}, "block size 100"},
      {{.target = {.format = Format::vhd, .logical_sector_bytes = 4096}}, "512 bytes only"},
      {{.target = {.format = Format::vhd, .data_write_guid = id}}, "only VHDX"},
      {{.target = {.format = Format::vhd, .parent_path = "p.vhd"}}, "create -b"},
      {{.target = {.format = Format::vhd, .subformat = Subformat::differencing}}, "needs a parent"},
      {{.target = {.format = Format::vhd, .profile = Profile::wsl}}, "WSL keeps"},
      {{.target = {.format = Format::vhd}, .request_count = 0}, "0 requests in flight"},
      {{.target = {.format = Format::vhd}, .request_count = 17}, "must be 1 to 16"},
  };
  for (const Case& test : cases) {
    CAPTURE(test.text);
    ImagePlace place;
    tests::put_file(place.path("source"), tests::random_bytes(2 * MiB, 1));
    tests::put_file(place.path("old"), tests::random_bytes(1000, 2));
    ConvertOptions options = test.options;
    options.replace = true;
    REQUIRE_FAILS(Errc::invalid_argument, test.text, place.convert("source", "old", options));
    REQUIRE_EQUAL(tests::file_content(place.path("old")), tests::random_bytes(1000, 2));
    REQUIRE_FAILS(Errc::invalid_argument, test.text, place.convert("source", "new", options));
    CHECK(place.file_count() == 2);
  }
}

TEST_CASE("an existing target stays unless it is to be replaced") {
  ImagePlace place;
  tests::put_file(place.path("source"), tests::random_bytes(1 * MiB, 1));
  tests::put_file(place.path("old"), tests::random_bytes(1000, 2));
  REQUIRE_FAILS(Errc::exists, "old: exists already", place.convert("source", "old", to(dynamic)));
  REQUIRE_EQUAL(tests::file_content(place.path("old")), tests::random_bytes(1000, 2));
  ConvertOptions options = to(dynamic);
  options.replace = true;
  REQUIRE_OK(place.convert("source", "old", options));
  REQUIRE_EQUAL(place.content("old"), tests::random_bytes(1 * MiB, 1));
  CHECK(place.file_count() == 2);
}

TEST_CASE("a target that is one of the source's files is refused, under whatever name") {
  ImagePlace place;
  tests::put_file(place.path("raw"), tests::random_bytes(1 * MiB, 1));
  REQUIRE_OK(place.convert("raw", "base.vhd", to(dynamic)));
  const CreateOptions child{.format = Format::vhd, .parent_path = place.path("base.vhd")};
  const OpenOptions open_options;
  REQUIRE_OK(
      place.loop().run(create(place.loop(), place.path("child.vhd"), child, open_options, false)));
  fs::create_hard_link(place.path("base.vhd"), place.path("hard"));
  fs::create_symlink("child.vhd", place.path("soft"));
  fs::create_symlink("hard", place.path("soft to hard"));
  ConvertOptions options = to(raw);
  options.replace = true;
  const size_t count = place.file_count();
  for (const std::string name : {"child.vhd", "base.vhd", "hard", "soft", "soft to hard"}) {
    CAPTURE(name);
    REQUIRE_FAILS(Errc::invalid_argument, name + ": the target is one of the source's files",
                  place.convert("child.vhd", name, options));
  }
  REQUIRE_EQUAL(place.content("child.vhd"), tests::random_bytes(1 * MiB, 1));
  CHECK(place.file_count() == count);
}

TEST_CASE("targets that no file can take the place of are refused") {
  ImagePlace place;
  tests::put_file(place.path("source"), tests::random_bytes(1 * MiB, 1));
  fs::create_directory(place.path("folder"));
  REQUIRE(mkfifo(place.path("fifo").c_str(), 0600) == 0);
  ConvertOptions options = to(fixed);
  options.replace = true;
  REQUIRE_FAILS(Errc::unsupported, "is a directory", place.convert("source", "folder", options));
  REQUIRE_FAILS(Errc::unsupported, "no regular file", place.convert("source", "fifo", options));
  REQUIRE_FAILS(Errc::not_found, "its folder", place.convert("source", "absent/a", options));
  REQUIRE_FAILS(Errc::not_found, "absent", place.convert("absent", "a", options));
  CHECK(place.file_count() == 3);
  CHECK(place.file_count("folder") == 0);
}

TEST_CASE("a read-only file system takes no target") {
  ImagePlace place;
  const tests::Mount mount("-t tmpfs -o ro none", place.path("mount"));
  if (!mount.is_mounted()) return tests::skip("mounting is not allowed here");
  tests::put_file(place.path("source"), tests::random_bytes(1 * MiB, 1));
  REQUIRE_FAILS(Errc::read_only, "mount/a: creating a file",
                place.convert("source", "mount/a", to(fixed)));
}

TEST_CASE("bug class 18: a full disk leaves the target as it was and nothing beside it") {
  ImagePlace place;
  const tests::Mount mount("-t tmpfs -o size=1m none", place.path("mount"));
  if (!mount.is_mounted()) return tests::skip("mounting is not allowed here");
  tests::put_file(place.path("source"), tests::random_bytes(3 * MiB, 1));
  tests::put_file(place.path("mount/old"), tests::random_bytes(1000, 2));
  for (const CreateOptions& target : all_targets) {
    ConvertOptions options = to(target);
    options.replace = true;
    REQUIRE_FAILS(Errc::no_space, "mount/old: writing",
                  place.convert("source", "mount/old", options));
    REQUIRE_EQUAL(tests::file_content(place.path("mount/old")), tests::random_bytes(1000, 2));
    CHECK(place.file_count("mount") == 1);
  }
}

// --- progress and interruption ---

class Watcher final : public Progress {
 public:
  explicit Watcher(uint64_t patience = UINT64_MAX) : patience_(patience) {}
  void update(uint64_t done_bytes, uint64_t total_bytes) override {
    CHECK(done_bytes >= done);
    CHECK(done_bytes <= total_bytes);
    done = done_bytes;
    total = total_bytes;
    ++count;
  }
  bool cancelled() const override { return count > patience_; }

  uint64_t done = 0;
  uint64_t total = 0;
  uint64_t count = 0;

 private:
  uint64_t patience_;
};

TEST_CASE("whoever interrupts a conversion finds the target as it was, at whatever moment") {
  ImagePlace place;
  tests::put_file(place.path("source"), tests::random_bytes(6 * MiB, 1));
  tests::put_file(place.path("old"), tests::random_bytes(1000, 2));
  for (const CreateOptions& target : all_targets) {
    ConvertOptions options = to(target);
    options.replace = true;
    Watcher whole;
    REQUIRE_OK(place.convert("source", "whole", options, &whole));
    CHECK(whole.done == 6 * MiB);
    CHECK(whole.total == 6 * MiB);
    CHECK(whole.count > 2);
    for (uint64_t patience = 0; patience < whole.count; ++patience) {
      Watcher watcher(patience);
      REQUIRE_FAILS(Errc::interrupted, "interrupted",
                    place.convert("source", "old", options, &watcher));
      REQUIRE_EQUAL(tests::file_content(place.path("old")), tests::random_bytes(1000, 2));
      CHECK(place.file_count() == 3);
    }
  }
}

TEST_CASE("reading alone can be interrupted too, in a hole of many TiB as well") {
  ImagePlace place;
  std::ofstream(place.path("sparse")).close();
  fs::resize_file(place.path("sparse"), 7 * TiB + 512);
  const auto image = place.open("sparse");
  REQUIRE_OK(image);
  Watcher hashing(3);
  REQUIRE_FAILS(Errc::interrupted, "interrupted",
                place.loop().run(hash(**image, HashAlgorithm::md5, &hashing)));
  const auto other = place.open("sparse");
  Watcher comparing(0);
  REQUIRE_FAILS(Errc::interrupted, "interrupted",
                place.loop().run(compare(**image, **other, false, &comparing)));
  tests::put_file(place.path("zeroes"), tests::random_bytes(4 * MiB, 1));
  const auto small = place.open("zeroes");
  Watcher measuring(0);
  const ConvertOptions options = to(dynamic);
  REQUIRE_FAILS(Errc::interrupted, "interrupted",
                place.loop().run(measure(place.loop(), **small, options, &measuring)));
}

// --- what it takes ---

TEST_CASE("zeroes that lie in the source take no room in the target") {
  ImagePlace place;
  Content content(8 * MiB);
  const Content piece = tests::random_bytes(8192, 1);
  std::ranges::copy(piece, content.begin() + 5 * MiB);
  {
    std::ofstream file(place.path("source"), std::ios::binary);  // no holes
    file.write(reinterpret_cast<const char*>(content.data()), std::streamsize(content.size()));
  }
  for (const CreateOptions& target : all_targets) {
    ConvertOptions options = to(target);
    options.replace = true;
    const auto report = place.convert("source", "target", options);
    REQUIRE_OK(report);
    CHECK(report->copied_bytes == 8192);
    CHECK(report->cloned_bytes == 0);
    CHECK(report->zero_bytes == 8 * MiB - 8192);
    CHECK(report->file_bytes == fs::file_size(place.path("target")));
    struct stat status;
    REQUIRE(stat(place.path("target").c_str(), &status) == 0);
    // A VHDX has two region tables of 64 KiB, besides the rest of its metadata.
    CHECK(uint64_t(status.st_blocks) * 512 <= 256 * KiB);
    REQUIRE_EQUAL(place.content("target"), content);
  }
}

TEST_CASE("measure gives the length that the conversion comes to") {
  for (const uint64_t size : {uint64_t{512}, 2 * MiB, 6 * MiB + 512}) {
    for (const unsigned pieces : {0u, 6u}) {
      CAPTURE(size);
      CAPTURE(pieces);
      ImagePlace place;
      tests::put_file(place.path("source"), tests::scattered(size, pieces, 3));
      tests::put_file(place.path("full"), tests::random_bytes(size, 3));
      const auto source = place.open("source");
      REQUIRE_OK(source);
      for (const CreateOptions& target : all_targets) {
        ConvertOptions options = to(target);
        options.replace = true;
        const auto measured = place.loop().run(measure(place.loop(), **source, options, nullptr));
        REQUIRE_OK(measured);
        REQUIRE_OK(place.convert("source", "target", options));
        CHECK(measured->required_bytes == fs::file_size(place.path("target")));
        REQUIRE_OK(place.convert("full", "target", options));
        CHECK(measured->fully_allocated_bytes == fs::file_size(place.path("target")));
      }
    }
  }
}

TEST_CASE("a block device is a source like a file") {
  ImagePlace place;
  const Content content = tests::scattered(5 * MiB, 10, 1);
  tests::put_file(place.path("backing"), content);
  const tests::LoopDevice device(place.path("backing"));
  if (device.path().empty()) return tests::skip("loop devices are not allowed here");
  const OpenOptions open_options;
  const auto image = place.loop().run(Image::open(place.loop(), device.path(), open_options));
  REQUIRE_OK(image);
  CHECK((*image)->contains_file(device.path()));
  CHECK_FALSE((*image)->contains_file(place.path("backing")));
  for (const CreateOptions& target : all_targets) {
    ConvertOptions options = to(target);
    options.replace = true;
    REQUIRE_OK(
        place.loop().run(convert(place.loop(), **image, place.path("target"), options, nullptr)));
    REQUIRE_EQUAL(place.content("target"), content);
    REQUIRE_FAILS(
        Errc::invalid_argument, "one of the source's files",
        place.loop().run(convert(place.loop(), **image, device.path(), options, nullptr)));
  }
}

}  // namespace
}  // namespace vhdkit::image
