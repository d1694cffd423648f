#include "libvhd/check.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>

#include "libvhd/create.h"
#include "tests/support/await.h"
#include "tests/support/sample.h"
#include "tests/support/vhd_image.h"

namespace vhdkit::libvhd {
namespace {

using namespace std::string_view_literals;
namespace footer_at = tests::vhd_footer;
namespace header_at = tests::vhd_header;
using disk::Finding;
using disk::Severity;
using tests::await;
using tests::vhd_differencing;
using tests::vhd_dynamic;
using tests::vhd_fixed;
using tests::VhdBytes;
using tests::VhdImage;

struct Report {
  disk::Findings findings;
  disk::BlockUsage usage;

  // "vhd-bat-unaligned" or several with spaces between.
  std::string codes() const {
    std::string text;
    for (const Finding& finding : findings.kept()) text += (text.empty() ? "" : " ") + finding.code;
    return text;
  }
};

Report checked(File& file) {
  Report report;
  REQUIRE_OK(await(check(file, report.findings, report.usage)));
  return report;
}

// A clean one: blocks 1 and 3 of 4 allocated on 4 KiB, and a footer where Windows wants it.
VhdImage clean(uint32_t type) {
  VhdImage image(type, 8 * MiB);
  image.footer.put(footer_at::cylinders, 2, 240).put(footer_at::heads, 1, 4);
  image.footer.put(footer_at::sectors, 1, 17);  // 16384 / 17 / 4
  if (type == vhd_differencing) {
    image.header.put(header_at::parent_id, 4, 7);
    image.locate(0, "W2ru", "p\0"sv);
  }
  image.place(1, 15).place(3, 15 + 4096 + 8);
  image.content_end += 3584;
  return image;
}

TEST_CASE("a clean image of each kind has no finding, and its blocks are counted") {
  for (const uint32_t type : {vhd_dynamic, vhd_differencing}) {
    CAPTURE(type);
    const auto file = clean(type).file();
    const Report report = checked(*file);
    CHECK(report.codes() == "");
    CHECK(report.usage.total == 4);
    CHECK(report.usage.allocated == 2);
    CHECK(report.usage.fragmented == 0);
    CHECK(report.usage.image_end_offset == file->size_bytes());
  }
  VhdBytes footer = tests::vhd_footer_bytes(vhd_fixed, 10 * MiB);
  footer.put(footer_at::cylinders, 2, 301)
      .put(footer_at::heads, 1, 4)
      .put(footer_at::sectors, 1, 17);
  async::MemoryFile fixed("a.vhd");
  fixed.store(10 * MiB, footer.seal(footer_at::checksum).bytes);
  CHECK(checked(fixed).codes() == "");
}

TEST_CASE("new images are clean") {
  for (const DiskType type : {DiskType::fixed, DiskType::dynamic, DiskType::differencing})
    for (const uint64_t size_bytes : {uint64_t{512}, 10 * MiB + 512, 300 * GiB}) {
      CAPTURE(uint32_t(type));
      CAPTURE(size_bytes);
      CreateOptions with{.type = type, .size_bytes = size_bytes, .unique_id = Guid::random()};
      if (type == DiskType::differencing)
        with.parent = ParentLink{.unique_id = Guid::random(), .relative_path = "p"};
      async::MemoryFile file("a.vhd");
      auto writer = create(file, with);
      REQUIRE_OK(writer);
      for (uint64_t i = 0; i < 5; ++i)
        REQUIRE_OK((*writer)->place(size_bytes / 5 * i / 2097152 * 2097152, 512));
      REQUIRE_OK(await((*writer)->finish()));
      CHECK(checked(file).codes() == "");
    }
}

struct Damage {
  std::string codes;
  std::function<void(VhdImage&)> act;
};

void check_each(const std::vector<Damage>& damages, uint32_t type) {
  for (const Damage& damage : damages) {
    CAPTURE(damage.codes);
    VhdImage image = clean(type);
    damage.act(image);
    const auto file = image.file();
    const Report report = checked(*file);
    CHECK(report.codes() == damage.codes);
    for (const Finding& finding : report.findings.kept()) {
      CHECK(finding.message.starts_with(finding.structure + ": "));
      CHECK(finding.file_offset <= file->size_bytes());
    }
  }
}

// Both footers are changed and sealed, so each finding comes twice: of the footer and its copy.
Damage in_footer(const std::string& code, size_t field, size_t length, uint64_t value,
                 const std::string& more = "") {
  return {code + " " + code + more,
          [=](VhdImage& image) { image.footer.put(field, length, value); }};
}

TEST_CASE("each field of a footer that is wrong has a finding") {
  check_each(
      {
          {"vhd-footer-checksum vhd-footer-checksum",
           [](VhdImage& image) {
             image.is_sealed = true;
             image.footer.seal(footer_at::checksum).put(footer_at::checksum, 1, 0);
             image.header.seal(header_at::checksum);
           }},
          in_footer("vhd-footer-version", footer_at::version, 4, 0x10001),
          in_footer("vhd-footer-features", footer_at::features, 4, 6),
          in_footer("vhd-footer-reserved", 511, 1, 1),
          in_footer("vhd-footer-reserved", footer_at::reserved, 1, 1),
          {"vhd-footer-hidden vhd-footer-hidden",
           [](VhdImage& image) {
             image.footer.put(footer_at::creator, {"tap\0", 4}).put(footer_at::reserved, 1, 1);
           }},
          in_footer("vhd-footer-saved-state", footer_at::saved_state, 1, 2),
          in_footer("vhd-saved-state", footer_at::saved_state, 1, 1),
          in_footer("vhd-footer-size", footer_at::current_size, 8, 8 * MiB + 1),
          in_footer("vhd-geometry", footer_at::heads, 1, 5),
          // A second version of everything: what it says is not believed.
          in_footer("vhd-footer-version", footer_at::version, 4, 0x20000),
          {"vhd-geometry-size vhd-geometry-size",
           [](VhdImage& image) { image.footer.put(footer_at::creator, "vpc "); }},
      },
      vhd_dynamic);
}

TEST_CASE("footers that tell no disk end the check") {
  check_each(
      {
          {"vhd-footer-disk-type",
           [](VhdImage& image) { image.footer.put(footer_at::type, 4, 5); }},
          {"vhd-footer-size",
           [](VhdImage& image) {
             image.footer.put(footer_at::current_size, 8, 511).put(footer_at::cylinders, 2, 0);
           }},
          {"vhd-footer-missing", [](VhdImage& image) { image.has_copy = image.has_tail = false; }},
      },
      vhd_dynamic);
}

TEST_CASE("a footer and its copy are compared") {
  VhdImage image = clean(vhd_dynamic);
  auto file = image.file();
  file->store(0, std::vector<std::byte>(1));
  CHECK(checked(*file).codes() == "vhd-footer-copy-missing");
  VhdBytes other = image.footer;
  file->store(0, other.put(footer_at::time_stamp, 4, 1).seal(footer_at::checksum).bytes);
  const Report report = checked(*file);
  CHECK(report.codes() == "vhd-footer-copy-different");
  CHECK(report.findings.kept()[0].file_offset == footer_at::time_stamp);

  // The copy is gone on with where the footer is lost.
  image.has_tail = false;
  CHECK(checked(*image.file()).codes() == "vhd-footer-missing");
  CHECK(checked(*image.file()).usage.allocated == 2);
  CHECK(checked(*image.file()).usage.image_end_offset == image.content_end - 3584);
}

TEST_CASE("bug class 28: a footer of 511 bytes is worth a note") {
  auto file = clean(vhd_dynamic).file();
  REQUIRE_OK(file->resize(file->size_bytes() - 1));
  const Report report = checked(*file);
  CHECK(report.codes() == "vhd-footer-short");
  CHECK(report.findings.count(Severity::note) == 1);
}

TEST_CASE("a fixed disk fills its file up to the footer") {
  VhdBytes footer = tests::vhd_footer_bytes(vhd_fixed, 10 * MiB);
  footer.put(footer_at::cylinders, 2, 301)
      .put(footer_at::heads, 1, 4)
      .put(footer_at::sectors, 1, 17);
  footer.seal(footer_at::checksum);
  for (const auto& [offset, codes] :
       {std::pair{10 * MiB - 512, "vhd-disk-past-end"}, {10 * MiB + 512, "vhd-data-after-disk"}}) {
    async::MemoryFile file("a.vhd");
    file.store(offset, footer.bytes);
    CHECK(checked(file).codes() == codes);
  }
  async::MemoryFile file("a.vhd");
  file.store(10 * MiB, footer.put(footer_at::data_offset, 8, 512).seal(footer_at::checksum).bytes);
  CHECK(checked(file).codes() == "vhd-footer-data-offset");
}

Damage in_header(const std::string& code, size_t field, size_t length, uint64_t value) {
  return {code, [=](VhdImage& image) { image.header.put(field, length, value); }};
}

TEST_CASE("each field of a dynamic disk header that is wrong has a finding") {
  check_each(
      {
          {"vhd-header-checksum",
           [](VhdImage& image) {
             image.is_sealed = true;
             image.footer.seal(footer_at::checksum);
             image.header.seal(header_at::checksum).put(header_at::checksum, 1, 0);
           }},
          in_header("vhd-header-cookie", 0, 1, 'x'),
          in_header("vhd-header-version", header_at::version, 4, 0x10001),
          in_header("vhd-header-version", header_at::version, 4, 0x20000),
          in_header("vhd-header-data-offset", header_at::data_offset, 8, 0),
          in_header("vhd-header-reserved", header_at::reserved, 4, 1),
          in_header("vhd-header-reserved", 1023, 1, 1),
          in_header("vhd-header-block-size", header_at::block_size, 4, 3 * MiB),
          in_header("vhd-header-block-size", header_at::block_size, 4, 256 * KiB),
          in_header("vhd-bat-outside", header_at::table_offset, 8, 511),
          in_header("vhd-bat-outside", header_at::table_offset, 8, ~uint64_t{0}),
          in_header("vhd-bat-upon-header", header_at::table_offset, 8, 1500),
          in_header("vhd-bat-too-long", header_at::max_entries, 4, 5),
          in_header("vhd-locator-reserved", header_at::locators + header_at::locator_reserved, 4,
                    1),
          {"vhd-header-outside",
           [](VhdImage& image) {
             image.footer.put(footer_at::data_offset, 8, image.content_end - 1023);
           }},
          {"vhd-locator-unused",
           [](VhdImage& image) { image.put_locator(2, "W2ku", 0x800, 512, 4); }},
          {"vhd-bat-unaligned",
           [](VhdImage& image) {
             image.table_offset = 1540;
             image.header.put(header_at::table_offset, 8, 1540);
           }},
      },
      vhd_dynamic);
}

TEST_CASE("bug class 15: a BAT too short for the last block, or for the file, is corruption") {
  // What the last entry led to is not used any more.
  check_each({in_header("vhd-bat-too-short vhd-unused-space", header_at::max_entries, 4, 3)},
             vhd_dynamic);
  VhdImage image(vhd_dynamic, 64 * GiB);
  image.content_end = 2048;
  image.table.resize(128);
  CHECK(checked(*image.file()).codes() == "vhd-geometry vhd-geometry vhd-bat-past-end");
}

TEST_CASE("a block size of its own is worth a note") {
  VhdImage image(vhd_dynamic, 8 * MiB, 512 * KiB);
  CHECK(checked(*image.file()).codes() == "vhd-geometry vhd-geometry vhd-block-size-unusual");
}

TEST_CASE("a child's locators and its parent's identifier are checked") {
  check_each(
      {
          {"vhd-locator-damaged vhd-parent-path-missing",
           [](VhdImage& image) { image.put_locator(0, "W2ru", 0x800, 512, 0); }},
          {"vhd-locator-damaged",
           [](VhdImage& image) { image.put_locator(1, "W2ku", 1 << 30, 512, 4); }},
          {"vhd-locator-space", [](VhdImage& image) { image.put_locator(0, "W2ru", 0x800, 0, 2); }},
          {"vhd-locator-overlap",
           [](VhdImage& image) { image.put_locator(1, "MacX", 512, 512, 4); }},
          {"vhd-locator-overlap",
           [](VhdImage& image) { image.put_locator(1, "MacX", 0x600, 512, 4); }},
          {"vhd-locator-overlap vhd-locator-overlap",
           [](VhdImage& image) { image.put_locator(1, "W2ku", 0x800, 512, 4); }},
          {"vhd-parent-path-missing",
           [](VhdImage& image) { image.header.put(header_at::locators, "MacX"); }},
          in_header("vhd-parent-id-zero", header_at::parent_id, 4, 0),
      },
      vhd_differencing);
}

TEST_CASE("bug class 21: each BAT entry that leads astray is corruption with its place") {
  VhdImage image = clean(vhd_dynamic);
  image.table = {0, 15, 0x3000, 15 + 4096 + 8};
  const Report report = checked(*image.file());
  CHECK(report.codes() == "vhd-bat-entry-in-metadata vhd-bat-entry-past-end");
  CHECK(report.usage.allocated == 4);
  const Finding& first = report.findings.kept()[0];
  CHECK(first.structure == "BAT entry 0");
  CHECK(first.file_offset == 1536);
  CHECK(first.value == "0x0");
  CHECK(first.severity == Severity::corruption);
  CHECK(first.message ==
        "BAT entry 0: sector 0x0 puts the block upon the copy of the footer (0x0 "
        "to 0x200)");
  const Finding& second = report.findings.kept()[1];
  CHECK(second.file_offset == 1536 + 8);
  CHECK(second.message.find("past the end of the content") != std::string::npos);
}

TEST_CASE("blocks upon each other are corruption that names both") {
  VhdImage image = clean(vhd_dynamic);
  image.place(0, 15 + 7);
  Report report = checked(*image.file());
  REQUIRE(report.codes() == "vhd-blocks-overlap vhd-blocks-unaligned");
  CHECK(report.findings.kept()[0].message ==
        "BAT entry 0: sector 0x16 puts the block upon block 1 (0x1e00 to 0x202000)");
  CHECK(report.usage.fragmented == 1);
  // One place for all; the space of the other is not used any more.
  image.table = {15, 15, 15, 15};
  CHECK(checked(*image.file()).codes() ==
        "vhd-blocks-overlap vhd-blocks-overlap vhd-blocks-overlap vhd-unused-space");
}

TEST_CASE("more blocks than fit into the file are told without being kept") {
  VhdImage image(vhd_dynamic, 4096 * 2 * MiB);
  std::ranges::fill(image.table, 47);
  image.content_end = 24064 + 512 + 2 * MiB;
  const Report report = checked(*image.file());
  CHECK(report.usage.allocated == 4096);
  CHECK(report.findings.count(Severity::corruption) == 2);
  CHECK(report.findings.count(Severity::leak) == 0);
}

TEST_CASE("space that nothing uses is a leak, padding is none") {
  VhdImage image = clean(vhd_dynamic);
  image.table[1] = 0xffffffff;
  Report report = checked(*image.file());
  REQUIRE(report.codes() == "vhd-unused-space");
  CHECK(report.findings.count(Severity::leak) == 1);
  CHECK(report.findings.kept()[0].file_offset == 2048);
  CHECK(report.findings.kept()[0].message ==
        "unused space: nothing uses the 0x202600 bytes from 0x800 to 0x202e00");

  // makevhdx ends the metadata on 4 KiB and has the first block's data on the next.
  VhdImage padded(vhd_dynamic, 8 * MiB);
  padded.footer = clean(vhd_dynamic).footer;
  padded.place(1, (8192 + 3584 - 4096) / 512);
  padded.content_end += 3584;
  CHECK(checked(*padded.file()).codes() == "");
}

TEST_CASE("blktap's batmap behind the BAT is in use") {
  // 16 KiB of map, announced in the sector behind the BAT
  VhdImage image = clean(vhd_dynamic);
  image.table = {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff};
  image.pieces.clear();
  image.content_end = 2560 + 32 * 512;
  CHECK(checked(*image.file()).codes() == "vhd-spare-space");
  VhdBytes batmap{std::vector<std::byte>(512)};
  batmap.put(0, "tdbatmap").put(8, 8, 2560).put(16, 4, 32).put(20, 4, 0x10002);
  image.pieces.push_back({2048, batmap.bytes});
  CHECK(checked(*image.file()).codes() == "");
  image.pieces.back().bytes = batmap.put(8, 8, ~uint64_t{0}).put(16, 4, 0xffffffff).bytes;
  CHECK(checked(*image.file()).codes() == "vhd-spare-space");
}

TEST_CASE("data that is not on 4 KiB is worth one note") {
  VhdImage image = clean(vhd_dynamic);
  image.pieces.clear();
  image.table = {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff};
  image.content_end = 0;
  image.place(0, 4).place(1, 4 + 4097).place(2, 4 + 2 * 4097);  // as QEMU does
  const Report report = checked(*image.file());
  REQUIRE(report.codes() == "vhd-blocks-unaligned");
  CHECK(report.findings.kept()[0].severity == Severity::note);
  CHECK(report.findings.kept()[0].value == "3");
  CHECK(report.usage.fragmented == 0);
}

TEST_CASE("blocks out of order count as fragmented") {
  VhdImage image = clean(vhd_dynamic);
  std::swap(image.table[1], image.table[3]);
  const Report report = checked(*image.file());
  CHECK(report.codes() == "");
  CHECK(report.usage.fragmented == 1);
}

TEST_CASE("clear bits of a dynamic disk, and empty bitmaps of a child, are worth one note") {
  struct {
    uint32_t type;
    std::vector<uint8_t> bitmap;
    std::string codes;
  } const cases[] = {
      {vhd_dynamic, {0x7f}, "vhd-bitmap-clear"},
      {vhd_dynamic, std::vector<uint8_t>(512), "vhd-bitmap-clear"},
      {vhd_differencing, {0x7f}, ""},
      {vhd_differencing, std::vector<uint8_t>(512), "vhd-bitmap-empty"},
  };
  for (const auto& test : cases) {
    CAPTURE(test.codes);
    VhdImage image = clean(test.type);
    image.place(3, 15 + 4096 + 8, test.bitmap);
    image.content_end = clean(test.type).content_end;
    const Report report = checked(*image.file());
    REQUIRE(report.codes() == test.codes);
    if (test.codes.empty()) continue;
    CHECK(report.findings.kept()[0].structure == "block 3");
    CHECK(report.findings.kept()[0].value == "1");
  }
  // Bits beyond the disk's end mean nothing: of the last block, 9 sectors count.
  VhdImage image(vhd_dynamic, 2 * MiB + 9 * 512);
  std::vector<uint8_t> bitmap(512);
  bitmap[0] = 0xff;
  bitmap[1] = 0x80;
  image.place(1, 7, bitmap);
  CHECK(checked(*image.file()).codes() == "vhd-geometry vhd-geometry");
}

TEST_CASE("a block beyond the disk's end is in use by those who take the disk for larger") {
  VhdImage image = clean(vhd_dynamic);
  image.footer.put(footer_at::current_size, 8, 6 * MiB).put(footer_at::cylinders, 2, 180);
  const Report report = checked(*image.file());
  CHECK(report.codes() == "vhd-bat-too-long");
  CHECK(report.usage.total == 3);
  CHECK(report.usage.allocated == 1);
}

TEST_CASE("bug class 19: hostile numbers are findings, never more") {
  constexpr uint64_t numbers[] = {0,
                                  1,
                                  511,
                                  512,
                                  513,
                                  1 << 20,
                                  0x7fffffff,
                                  0x80000000,
                                  0xffffffff,
                                  uint64_t{1} << 40,
                                  ~uint64_t{0} >> 1,
                                  uint64_t{1} << 63,
                                  ~uint64_t{0} - 511,
                                  ~uint64_t{0}};
  for (const uint64_t number : numbers)
    for (size_t field = 8; field + 8 <= 88; field += 4) {
      VhdImage image = clean(vhd_differencing);
      image.footer.put(field, field % 8 == 0 ? 8 : 4, number);
      checked(*image.file());
      image = clean(vhd_differencing);
      image.header.put(field, field % 8 == 0 ? 8 : 4, number);
      image.header.put(header_at::locators + field % 24 / 4 * 4, 4, number);
      checked(*image.file());
    }
}

TEST_CASE("a file cut off anywhere is checked to the end of what is there") {
  const auto whole = clean(vhd_differencing).file();
  std::vector<std::byte> bytes(0x2400);
  whole->fetch(0, bytes);
  for (size_t length = 0; length < bytes.size(); length += length < 0xa40 ? 1 : 63) {
    CAPTURE(length);
    async::MemoryFile file("a.vhd", std::span(bytes).first(length));
    CHECK(checked(file).findings.count(Severity::corruption) > 0);
  }
}

TEST_CASE("images that Virtual PC and Hyper-V made are not corrupt") {
  if (const auto file = tests::sample("virtualpc-dynamic.vhd.bz2")) {
    const Report report = checked(*file);
    CHECK(report.codes() == "vhd-geometry-size vhd-geometry-size");
    CHECK(report.usage.total == 65024);
    CHECK(report.usage.allocated == 0);
  }
  if (const auto file = tests::sample("hyperv-fixed-10M.vhd.gz"))
    CHECK(checked(*file).codes() == "");
}

}  // namespace
}  // namespace vhdkit::libvhd
