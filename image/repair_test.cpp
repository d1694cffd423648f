#include "image/repair.h"

#include <doctest/doctest.h>

#include "image/create.h"
#include "image/hash.h"
#include "tests/support/image_place.h"
#include "tests/support/sample.h"

namespace vhdkit::image {
namespace {

using tests::Content;
using tests::file_content;
using tests::ImagePlace;
using tests::put_file;

struct Workshop : ImagePlace {
  void make(const std::string& name, Format format) {
    const CreateOptions options{.format = format, .size_bytes = 8 * MiB};
    const OpenOptions open_options;
    REQUIRE_OK(loop().run(create(loop(), path(name), options, open_options, false)));
  }
  void overwrite(const std::string& name, uint64_t file_offset, size_t length) {
    Content content = file_content(path(name));
    std::fill_n(content.begin() + ptrdiff_t(file_offset), length, std::byte{0xee});
    put_file(path(name), content);
  }
  Result<RepairReport> repair(const std::string& name, const OpenOptions& options = {}) {
    return loop().run(image::repair(loop(), path(name), options, std::nullopt));
  }
};

// Each place whose other copy is whole: what is damaged, and what mending says.
TEST_CASE("a damaged copy is written again from the good one, and nothing else is") {
  struct Case {
    Format format;
    uint64_t file_offset;
    const char* sentence;
  };
  const Case cases[] = {
      {Format::vhdx, 64 * KiB, "wrote the damaged header from the good one"},
      {Format::vhdx, 128 * KiB, "wrote the damaged header from the good one"},
      {Format::vhdx, 192 * KiB, "wrote the damaged region table from its good copy"},
      {Format::vhdx, 256 * KiB, "wrote the damaged region table from its good copy"},
      {Format::vhd, 0, "wrote the copy of the footer"},
  };
  for (const Case& test : cases) {
    CAPTURE(test.file_offset);
    Workshop workshop;
    workshop.make("image", test.format);
    workshop.overwrite("image", test.file_offset, 100);
    const auto report = workshop.repair("image");
    REQUIRE_OK(report);
    REQUIRE(report->done.size() == 1);
    CHECK(report->done.front().starts_with(test.sentence));
    CHECK(report->fault.empty());
    CHECK(report->after.findings.total() == 0);
    const Content mended = file_content(workshop.path("image"));
    const auto again = workshop.repair("image");
    REQUIRE_OK(again);
    CHECK(again->done.empty());
    REQUIRE_EQUAL(file_content(workshop.path("image")), mended);
  }
}

TEST_CASE("a VHD's damaged footer comes back where it was, a lost one where nothing is used") {
  Workshop workshop;
  workshop.make("image", Format::vhd);
  const Content whole = file_content(workshop.path("image"));
  workshop.overwrite("image", whole.size() - 512, 100);
  const auto damaged = workshop.repair("image");
  REQUIRE_OK(damaged);
  REQUIRE(damaged->done.size() == 1);
  REQUIRE_EQUAL(file_content(workshop.path("image")), whole);
  std::filesystem::resize_file(workshop.path("image"), whole.size() - 512);
  const auto lost = workshop.repair("image");
  REQUIRE_OK(lost);
  REQUIRE(lost->done.size() == 1);
  CHECK(lost->after.findings.total() == 0);
}

TEST_CASE("a dirty log is written to its places, and the disk holds what it held") {
  const auto packed = tests::sample("iotest-dirtylog-10G-4M.vhdx.bz2");
  if (!packed) return;
  Workshop workshop;
  Content content(packed->size_bytes());
  packed->fetch(0, content);
  put_file(workshop.path("dirty.vhdx"), content);
  const auto report = workshop.repair("dirty.vhdx");
  REQUIRE_OK(report);
  REQUIRE(report->done == std::vector<std::string>{"replayed the log and emptied it"});
  CHECK(report->after.findings.count(disk::Severity::corruption) == 0);
  const auto image = workshop.open("dirty.vhdx");
  REQUIRE_OK(image);
  CHECK((*image)->disk().layer(0).describe().text("log-state") == "clean");
  const auto hashed = workshop.loop().run(image::hash(**image, HashAlgorithm::sha256, nullptr));
  REQUIRE_OK(hashed);
  // samples/README.md
  CHECK(*hashed == "179cefe8b0587f123393eedf2aa7aa8d25798591178e6bc3950a09762f38f96f");
}

TEST_CASE("what cannot be mended is said, checked, and left as it is") {
  Workshop workshop;
  workshop.make("image", Format::vhdx);
  workshop.overwrite("image", 64 * KiB, 100);
  workshop.overwrite("image", 128 * KiB, 100);
  const Content before = file_content(workshop.path("image"));
  const auto report = workshop.repair("image");
  REQUIRE_OK(report);
  CHECK(report->done.empty());
  CHECK_FALSE(report->fault.empty());
  CHECK(report->after.findings.count(disk::Severity::corruption) > 0);
  REQUIRE_EQUAL(file_content(workshop.path("image")), before);
}

TEST_CASE("only a VHD or VHDX that nobody else holds is repaired") {
  Workshop workshop;
  workshop.make("image", Format::vhdx);
  put_file(workshop.path("raw"), Content(4096, std::byte{1}));
  put_file(workshop.path("gz"), Content{std::byte{0x1f}, std::byte{0x8b}, std::byte{8},
                                        std::byte{0}, std::byte{0}, std::byte{0}});
  REQUIRE_FAILS(Errc::unsupported, "raw images cannot be repaired", workshop.repair("raw"));
  REQUIRE_FAILS(Errc::unsupported, "gzip", workshop.repair("gz"));
  REQUIRE_FAILS(Errc::not_found, "nothing", workshop.repair("nothing"));
  const auto holder = async::SystemFile::open(workshop.loop(), workshop.path("image"),
                                              async::SystemFile::Access::read_write);
  REQUIRE_OK(holder);
  REQUIRE_FAILS(Errc::busy, "image", workshop.repair("image"));
}

}  // namespace
}  // namespace vhdkit::image
