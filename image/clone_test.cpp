// Conversions on a file system that shares extents.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tests/support/image_place.h"
#include "tests/support/programs.h"

namespace vhdkit::image {
namespace {

namespace fs = std::filesystem;
using tests::Content;

// An XFS in a file. What lies in "x/" lies there.
class XfsPlace : public tests::ImagePlace {
 public:
  bool is_usable() const { return mount_.has_value() && mount_->is_mounted(); }
  XfsPlace() {
    const std::string image = path("xfs.img");
    if (!tests::run("truncate -s 512M '" + image + "' && mkfs.xfs -q -m reflink=1 '" + image + "'"))
      return;
    mount_.emplace("-o loop '" + image + "'", path("x"));
  }

 private:
  std::optional<tests::Mount> mount_;
};

#define PLACE_OR_SKIP(place) \
  XfsPlace place;            \
  if (!place.is_usable()) return tests::skip("no XFS with reflink can be mounted")

// How many bytes of the file are shared with another one.
uint64_t shared_bytes(const std::string& path) {
  constexpr unsigned max_extents = 4000;
  std::vector<std::byte> memory(sizeof(fiemap) + max_extents * sizeof(fiemap_extent));
  auto* const map = reinterpret_cast<fiemap*>(memory.data());
  map->fm_length = FIEMAP_MAX_OFFSET;
  map->fm_flags = FIEMAP_FLAG_SYNC;
  map->fm_extent_count = max_extents;
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(ioctl(descriptor, FS_IOC_FIEMAP, map) == 0);
  close(descriptor);
  uint64_t shared = 0;
  for (unsigned i = 0; i < map->fm_mapped_extents; ++i)
    if ((map->fm_extents[i].fe_flags & FIEMAP_EXTENT_SHARED) != 0)
      shared += map->fm_extents[i].fe_length;
  return shared;
}

ConvertOptions to(Format format, std::optional<Subformat> subformat = {}) {
  return {.target = {.format = format, .subformat = subformat}, .replace = true};
}
const ConvertOptions raw = to(Format::raw);
const ConvertOptions fixed = to(Format::vhd, Subformat::fixed);
const ConvertOptions dynamic = to(Format::vhd, Subformat::dynamic);
const ConvertOptions fixed_vhdx = to(Format::vhdx, Subformat::fixed);
const ConvertOptions dynamic_vhdx = to(Format::vhdx, Subformat::dynamic);
const ConvertOptions all_targets[] = {raw, fixed, dynamic, fixed_vhdx, dynamic_vhdx};

TEST_CASE(
    "on one file system, raw, VHD and VHDX share their whole pages, and the odd end is copied") {
  PLACE_OR_SKIP(place);
  for (const size_t size : {size_t{9 * MiB}, size_t{9 * MiB + 512}, size_t{2 * MiB - 512}}) {
    CAPTURE(size);
    const Content content = tests::random_bytes(size, 1);
    const uint64_t whole = align_down(size, 4096);
    tests::put_file(place.path("x/raw"), content);
    for (const ConvertOptions& first : all_targets) {
      const auto report = place.convert("x/raw", "x/first", first);
      REQUIRE_OK(report);
      CHECK(report->cloned_bytes == whole);
      CHECK(report->copied_bytes == size - whole);
      CHECK(shared_bytes(place.path("x/first")) == whole);
      REQUIRE_EQUAL(place.content("x/first"), content);
      for (const ConvertOptions& second : all_targets) {
        const auto again = place.convert("x/first", "x/second", second);
        REQUIRE_OK(again);
        CHECK(again->cloned_bytes == whole);
        REQUIRE_EQUAL(place.content("x/second"), content);
        CHECK(again->file_bytes == fs::file_size(place.path("x/second")));
      }
    }
    REQUIRE_OK(place.convert("x/first", "x/second", raw));
    REQUIRE_EQUAL(tests::file_content(place.path("x/second")), content);
  }
}

TEST_CASE("a raw file that ends inside a sector is cloned and padded") {
  PLACE_OR_SKIP(place);
  Content content = tests::random_bytes(3 * MiB + 4096 + 1, 1);
  tests::put_file(place.path("x/raw"), content);
  content.resize(3 * MiB + 4096 + 512);
  for (const ConvertOptions& target : all_targets) {
    const auto report = place.convert("x/raw", "x/target", target);
    REQUIRE_OK(report);
    CHECK(report->cloned_bytes == 3 * MiB + 4096);
    REQUIRE_EQUAL(place.content("x/target"), content);
  }
}

TEST_CASE("cloning makes no block for zeroes, and finds the same places as measure") {
  PLACE_OR_SKIP(place);
  Content content(30 * MiB);
  for (const size_t at : {5 * MiB, 6 * MiB + 4096, 17 * MiB + 100 * KiB}) {
    const Content piece = tests::random_bytes(40'000, unsigned(at));
    std::ranges::copy(piece, content.begin() + ptrdiff_t(at));
  }
  {
    std::ofstream file(place.path("x/raw"), std::ios::binary);  // no holes
    file.write(reinterpret_cast<const char*>(content.data()), std::streamsize(content.size()));
  }
  REQUIRE(tests::run("sync '" + place.path("x/raw") + "'"));
  const auto source = place.open("x/raw");
  REQUIRE_OK(source);
  const auto measured = place.loop().run(measure(place.loop(), **source, dynamic, nullptr));
  REQUIRE_OK(measured);
  const auto report = place.convert("x/raw", "x/target", dynamic);
  REQUIRE_OK(report);
  CHECK(report->cloned_bytes == 3 * 2 * MiB);
  CHECK(report->zero_bytes == 12 * 2 * MiB);
  CHECK(report->file_bytes == measured->required_bytes);
  REQUIRE_EQUAL(place.content("x/target"), content);
}

TEST_CASE("each image of a chain is cloned where it can be, and copied where it cannot") {
  PLACE_OR_SKIP(place);
  const Content base = tests::random_bytes(8 * MiB, 1);
  tests::put_file(place.path("base"), base);
  const auto loop_run = [&](Async<void> task) { return place.loop().run(std::move(task)); };
  for (const std::string parent : {"base.vhd", "x/base.vhd"}) {
    CAPTURE(parent);
    REQUIRE_OK(place.convert("base", parent, dynamic));
    REQUIRE_OK(place.convert("base", "x/child.raw", raw));
    const CreateOptions child{.format = Format::vhd, .parent_path = place.path(parent)};
    const OpenOptions open_options;
    REQUIRE_OK(
        loop_run(create(place.loop(), place.path("x/child.vhd"), child, open_options, true)));
    const auto report = place.convert("x/child.vhd", "x/target", raw);
    REQUIRE_OK(report);
    CHECK(report->cloned_bytes == (parent == "base.vhd" ? 0 : 8 * MiB));
    CHECK(report->cloned_bytes + report->copied_bytes == 8 * MiB);
    REQUIRE_EQUAL(place.content("x/target"), base);
  }
}

TEST_CASE("data that is not aligned is copied") {
  PLACE_OR_SKIP(place);
  if (!tests::has_program("qemu-img")) return tests::skip("no qemu-img");
  const Content content = tests::random_bytes(6 * MiB, 1);
  tests::put_file(place.path("x/raw"), content);
  // Its blocks lie right behind each other, with one sector of bitmap before each.
  REQUIRE(tests::run("qemu-img convert -f raw -O vpc -o force_size=on '" + place.path("x/raw") +
                     "' '" + place.path("x/qemu.vhd") + "'"));
  const auto report = place.convert("x/qemu.vhd", "x/target", raw);
  REQUIRE_OK(report);
  CHECK(report->cloned_bytes + report->copied_bytes == 6 * MiB);
  CHECK(report->copied_bytes > 0);
  REQUIRE_EQUAL(tests::file_content(place.path("x/target")), content);
}

TEST_CASE("another file system, or a user who does not want it, gets a copy") {
  PLACE_OR_SKIP(place);
  const Content content = tests::random_bytes(6 * MiB + 512, 1);
  tests::put_file(place.path("x/raw"), content);
  ConvertOptions alone = fixed;
  alone.allow_clone = false;
  const struct {
    std::string target;
    ConvertOptions options;
  } cases[] = {{"elsewhere", fixed}, {"elsewhere", dynamic}, {"x/alone", alone}};
  for (const auto& [target, options] : cases) {
    const auto report = place.convert("x/raw", target, options);
    REQUIRE_OK(report);
    CHECK(report->cloned_bytes == 0);
    CHECK(report->copied_bytes == 6 * MiB + 512);
    REQUIRE_EQUAL(place.content(target), content);
  }
  CHECK(shared_bytes(place.path("x/alone")) == 0);
}

class Impatient final : public Progress {
 public:
  void update(uint64_t, uint64_t) override {}
  bool cancelled() const override { return true; }
};

TEST_CASE("cloning can be interrupted") {
  PLACE_OR_SKIP(place);
  tests::put_file(place.path("x/raw"), tests::random_bytes(6 * MiB, 1));
  const size_t count = place.file_count("x");
  for (const ConvertOptions& target : all_targets) {
    Impatient progress;
    REQUIRE_FAILS(Errc::interrupted, "interrupted",
                  place.convert("x/raw", "x/target", target, &progress));
    CHECK(place.file_count("x") == count);
  }
}

}  // namespace
}  // namespace vhdkit::image
