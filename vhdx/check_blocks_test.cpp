#include <doctest/doctest.h>

#include "tests/support/vhdx_check.h"

namespace vhdkit::vhdx {
namespace {

using tests::checked;
using tests::clean_image;
using tests::Report;
using tests::VhdxImage;

using Entries = std::vector<std::pair<uint64_t, uint64_t>>;

VhdxImage image_with(Entries entries, uint64_t file_bytes) {
  VhdxImage image = clean_image();
  image.entries = std::move(entries);
  image.file_bytes = file_bytes;
  return image;
}

VhdxImage child_with(Entries entries, uint64_t file_bytes) {
  VhdxImage image = image_with(std::move(entries), file_bytes);
  image.make_differencing();
  return image;
}

Report report_of(const VhdxImage& image) {
  const auto file = image.build();
  return checked(*file);
}
std::string findings(const VhdxImage& image) { return report_of(image).text(); }

constexpr uint64_t bitmap_index = 4096;  // of 1 MiB blocks and sectors of 512 bytes

TEST_CASE("each state of a payload entry is judged by the kind of disk") {
  struct Case {
    unsigned state;
    const char* base;
    const char* child;
  };
  // [MS-VHDX] 2.5.1.1.
  const Case cases[] = {
      {0, "", ""},
      {1, "", ""},
      {2, "", ""},
      {3, "", ""},
      {4, "corruption bat-entry-state 0x300000", "corruption bat-entry-state 0x300000"},
      {5, "corruption bat-entry-state 0x300000", "corruption bat-entry-state 0x300000"},
      {6, "", ""},
      {7, "corruption bat-entry-state 0x300000", ""},
  };
  for (const Case& test : cases) {
    CAPTURE(test.state);
    const bool has_place = test.state != 0 && test.state != 2;
    const uint64_t entry = (has_place ? 4 * MiB : 0) | test.state;
    // A block that is not followed leaves a gap before block 1.
    const Entries base = {{0, entry}, {1, (has_place ? 5 * MiB : 4 * MiB) | 6}};
    const Report report = report_of(image_with(base, has_place ? 6 * MiB : 5 * MiB));
    const bool leaves_gap = *test.base != 0;
    CHECK(report.text() ==
          std::string(test.base) + (leaves_gap ? ", note spare-space 0x400000" : ""));
    Entries child = base;
    child.push_back({bitmap_index, (has_place ? 6 * MiB : 5 * MiB) | 6});
    const bool child_gap = *test.child != 0;
    CHECK(findings(child_with(child, has_place ? 7 * MiB : 6 * MiB)) ==
          std::string(test.child) + (child_gap ? ", note spare-space 0x400000" : ""));
  }
}

TEST_CASE("reserved bits of an entry are named, and what else is wrong with it too") {
  CHECK(findings(image_with({{0, 4 * MiB | 1 << 3 | 6}}, 5 * MiB)) ==
        "corruption bat-entry-reserved 0x300000");
  CHECK(findings(image_with({{0, 4 * MiB | 1 << 19 | 6}}, 5 * MiB)) ==
        "corruption bat-entry-reserved 0x300000");
  CHECK(findings(image_with({{0, 9 * MiB | 1 << 19 | 6}}, 4 * MiB)) ==
        "corruption bat-entry-reserved 0x300000, corruption block-past-end 0x300000");
}

TEST_CASE("bug class 7: blocks in the header section, the log or a region are named") {
  const char* const names[] = {
      "the header section (0x0 to 0x100000)", "the log (0x100000 to 0x200000)",
      "the metadata region (0x200000 to 0x300000)", "the BAT region (0x300000 to 0x400000)"};
  for (uint64_t mib = 0; mib < 4; ++mib) {
    const Report report = report_of(image_with({{2, mib * MiB | 6}}, 4 * MiB));
    CHECK(report.text() == "corruption block-in-structure 0x300010");
    CHECK(report.messages().find(names[mib]) != std::string::npos);
    CHECK(report.messages().starts_with("payload block 2 (BAT entry 2): "));
  }
}

TEST_CASE("bug class 21: blocks past the end of the file are named") {
  CHECK(findings(image_with({{0, 4 * MiB | 6}}, 5 * MiB - 512)) ==
        "corruption block-past-end 0x300000, note file-size 0x0");
  CHECK(findings(image_with({{7, 0xfffff00000 | 6}}, 4 * MiB)) ==
        "corruption block-past-end 0x300038");
  CHECK(findings(image_with({{7, ~uint64_t{0xfffff} | 6}}, 4 * MiB)) ==
        "corruption block-past-end 0x300038");
}

TEST_CASE("bug class 23: a last block that ends with the disk is a warning") {
  VhdxImage image = image_with({{0, 4 * MiB | 6}, {7, 5 * MiB | 6}}, 5 * MiB + 512);
  image.metadata.disk_size_bytes = 7 * MiB + 512;
  CHECK(findings(image) == "warning last-block-short 0x300038, note file-size 0x0");
  // Another block behind it, where the whole block would go on.
  image.metadata.block_size_bytes = 2 * MiB;
  image.metadata.disk_size_bytes = 7 * MiB;
  image.entries = {{0, 5 * MiB | 6}, {3, 4 * MiB | 6}};
  image.file_bytes = 7 * MiB;
  const Report report = report_of(image);
  CHECK(report.text() == "warning last-block-short 0x300018");
  CHECK(report.messages() ==
        "payload block 3 (BAT entry 3): the disk's last block has 0x100000 bytes of 0x200000: the "
        "disk's are all there, as QEMU leaves it\n");
  // Whole.
  image.entries = {{0, 6 * MiB | 6}, {3, 4 * MiB | 6}};
  image.file_bytes = 8 * MiB;
  CHECK(findings(image) == "");
}

TEST_CASE("blocks that lie upon each other are named, both") {
  const Report report =
      report_of(image_with({{0, 5 * MiB | 6}, {3, 4 * MiB | 6}, {6, 5 * MiB | 6}}, 6 * MiB));
  CHECK(report.text() == "corruption blocks-overlap 0x300030");
  CHECK(report.messages() ==
        "payload block 6 (BAT entry 6): file offset 0x500000 puts the block upon payload block 0 "
        "(BAT entry 0) (0x500000 to 0x600000)\n");
  VhdxImage large = image_with({{0, 4 * MiB | 6}, {1, 6 * MiB | 6}, {2, 7 * MiB | 6}}, 12 * MiB);
  large.metadata.block_size_bytes = 4 * MiB;
  large.metadata.disk_size_bytes = 12 * MiB;
  CHECK(findings(large) ==
        "corruption blocks-overlap 0x300008, corruption blocks-overlap 0x300010, leak unused-tail "
        "0xb00000");
}

TEST_CASE("more blocks than the file has room for overlap, and no memory is taken for the rest") {
  VhdxImage image = image_with({}, 5 * MiB);
  image.metadata.disk_size_bytes = 4000 * MiB;
  for (uint64_t block = 0; block < 4000; ++block) image.entries.push_back({block, 4 * MiB | 6});
  const Report report = report_of(image);
  CHECK(report.findings.count(disk::Severity::corruption) == 5);
  CHECK(report.findings.count(disk::Severity::leak) == 0);
  CHECK(report.usage.allocated == 4000);
}

TEST_CASE("a partially present block needs the bitmap of its chunk") {
  CHECK(findings(child_with({{0, 4 * MiB | 7}, {bitmap_index, 5 * MiB | 6}}, 6 * MiB)) == "");
  const Report report = report_of(child_with({{1, 4 * MiB | 7}, {2, 5 * MiB | 7}}, 6 * MiB));
  CHECK(report.text() == "corruption bitmap-missing 0x308000");
  CHECK(report.messages() ==
        "sector bitmap block 0 (BAT entry 4096): is not present, but payload block 1 (BAT entry 1) "
        "is partially present; blocks like it: 2\n");
  // Another chunk's bitmap does not help; each chunk is named.
  VhdxImage chunks = child_with(
      {{0, 4 * MiB | 7}, {4097, 5 * MiB | 7}, {8194, 6 * MiB | 7}, {8193, 7 * MiB | 6}}, 8 * MiB);
  chunks.metadata.disk_size_bytes = 3 * 4096 * MiB;
  CHECK(findings(chunks) ==
        "corruption bitmap-missing 0x308000, corruption bitmap-missing 0x318010");
}

TEST_CASE("bitmap entries are judged by the kind of disk") {
  const uint64_t at = 3 * MiB + bitmap_index * 8;
  CHECK(at == 0x308000);
  VhdxImage base = image_with({{bitmap_index, 4 * MiB | 6}}, 4 * MiB);
  base.metadata.disk_size_bytes = 5000 * MiB;
  CHECK(findings(base) == "warning bitmap-without-parent 0x308000");
  for (const unsigned state : {1, 2, 3, 4, 5, 7})
    CHECK(findings(child_with({{bitmap_index, 4 * MiB | state}}, 4 * MiB)) ==
          "corruption bat-entry-state 0x308000");
  CHECK(findings(child_with({{bitmap_index, 4 * MiB | 6}}, 5 * MiB)) == "");
  CHECK(findings(child_with({{bitmap_index, 4 * MiB | 6}}, 4 * MiB)) ==
        "corruption block-past-end 0x308000");
  CHECK(findings(child_with({{bitmap_index, 4 * MiB | 6}, {0, 4 * MiB | 6}}, 5 * MiB)) ==
        "corruption blocks-overlap 0x308000");
}

TEST_CASE("undefined and unmapped blocks may keep their place, in which it is no leak") {
  for (const unsigned state : {1, 3}) {
    const Entries kept = {{0, 4 * MiB | 6}, {1, 9 * MiB | state}, {2, 10 * MiB | 6}};
    CHECK(findings(image_with(kept, 11 * MiB)) == "leak unused-space 0x500000");
    CHECK(findings(image_with({{0, 2 * MiB | state}}, 4 * MiB)) == "warning kept-place 0x300000");
    CHECK(findings(image_with({{0, 4 * MiB | state}}, 4 * MiB)) == "warning kept-place 0x300000");
    // [MS-VHDX] 2.5.1: nobody else's.
    const Report shared = report_of(image_with({{0, 4 * MiB | 6}, {1, 4 * MiB | state}}, 5 * MiB));
    CHECK(shared.text() == "warning kept-place 0x300008");
    CHECK(shared.messages() ==
          "payload block 1 (BAT entry 1): keeps a place at file offset 0x400000, upon payload "
          "block 0 (BAT entry 0) (0x400000 to 0x500000)\n");
  }
}

TEST_CASE("a BAT region that is too short is corruption, and what it has is checked") {
  VhdxImage image = image_with({{0, 5}}, 4 * MiB);
  image.metadata.disk_size_bytes = 200000 * MiB;
  const Report report = report_of(image);
  CHECK(report.text() == "corruption bat-too-short 0x300000, corruption bat-entry-state 0x300000");
  // 131072 entries fit.
  image.entries = {};
  image.metadata.disk_size_bytes = 131041 * MiB;
  CHECK(findings(image) == "");
  image.metadata.disk_size_bytes = 131041 * MiB + 512;
  CHECK(findings(image) == "corruption bat-too-short 0x300000");
}

TEST_CASE("a fixed disk's blocks without a place are noted, and the room for them is no leak") {
  VhdxImage image = image_with({{0, 4 * MiB | 6}}, 5 * MiB);
  image.metadata.leave_blocks_allocated = true;
  image.metadata.disk_size_bytes = 8 * MiB;
  CHECK(findings(image) == "note fixed-block-absent 0x300000");
  // As QEMU makes it: room for all blocks and its 4 MiB, no block in it.
  image.entries = {};
  image.file_bytes = 4 * MiB + 12 * MiB;
  CHECK(findings(image) == "note fixed-block-absent 0x300000, note spare-space 0x400000");
  image.file_bytes += 1 * MiB;
  CHECK(findings(image) == "note fixed-block-absent 0x300000, leak unused-tail 0x400000");
}

TEST_CASE("gaps are leaks, each named once with the sum of all") {
  const Report report = report_of(image_with(
      {{0, 4 * MiB | 6}, {1, 7 * MiB | 6}, {2, 8 * MiB | 6}, {3, 10 * MiB | 6}}, 20 * MiB));
  CHECK(report.text() ==
        "leak unused-space 0x500000, leak unused-space 0x900000, leak unused-tail 0xb00000");
  CHECK(report.messages() ==
        "unused space: nothing uses the 0x200000 bytes from 0x500000 to 0x700000; unused in all: "
        "0xc00000\n"
        "unused space: nothing uses the 0x100000 bytes from 0x900000 to 0xa00000; unused in all: "
        "0xc00000\n"
        "unused space: nothing uses the 0x900000 bytes from 0xb00000 to the end of the file; "
        "unused in all: 0xc00000\n");
  CHECK(report.usage.image_end_offset == 11 * MiB);
  CHECK(report.usage.fragmented == 2);
  // Before the first block: what QEMU leaves is none.
  CHECK(findings(image_with({{0, 8 * MiB | 6}}, 9 * MiB)) == "note spare-space 0x400000");
  CHECK(findings(image_with({{0, 9 * MiB | 6}}, 10 * MiB)) == "leak unused-space 0x400000");
}

TEST_CASE("a file that does not end on a MiB is noted, without a leak of less") {
  CHECK(findings(image_with({{0, 4 * MiB | 6}}, 5 * MiB + 4096)) == "note file-size 0x0");
}

TEST_CASE("a huge empty disk is checked without reading the holes of its BAT") {
  VhdxImage image = image_with({}, 3 * MiB + 513 * MiB);
  image.bat.length = 513 * MiB;
  image.metadata.disk_size_bytes = 64 * TiB;
  const Report report = report_of(image);
  CHECK(report.text() == "");
  CHECK(report.usage.total == 64 * MiB);
}

}  // namespace
}  // namespace vhdkit::vhdx
